"""The captioner from the command line, one module a command.

torch is imported inside the commands, never with these modules: help must not take seconds.
"""
