"""A training shared by several devices of this machine: torch elastic, which `torchrun` is, starts a process for each.

`launch` runs in the process that wants the captioner, `agent` starts the others and ends them all when one fails,
`member` is one of those that train. They hand over files only: a manifest, a checkpoint, JSON.
"""
