"""Drafts in SQL: how far waiting tasks have them, and what those of other tasks are made of."""
