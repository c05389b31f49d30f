"""Keeps a captioner's data for years: names that survive a move, whole copies, and what must be forgotten."""
