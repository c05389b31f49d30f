"""Scores of generated captions against references, a report page, and pictures of attention maps."""
