"""The commands of a captioner, one module each.

torch is imported inside the commands, never with these modules: help must not take seconds.
"""
