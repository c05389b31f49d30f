"""How a project does, for the pages that people open: figures of `captioner status`, charts, examples, what failed.

Nothing read here takes longer the more corrections there are.
"""
