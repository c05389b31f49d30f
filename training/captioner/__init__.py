"""The captioner, in memory and on disk."""
