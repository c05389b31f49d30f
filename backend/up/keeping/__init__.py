"""Backups of a data folder, and what a folder is restored from."""
