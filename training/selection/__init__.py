"""Which images people caption next, and how much a draft's score means. NumPy only."""
