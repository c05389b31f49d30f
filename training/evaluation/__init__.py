"""Captions of a data set scored against its references, as tables, pages and pictures."""
