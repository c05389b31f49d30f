"""Drafts of tasks that wait: made again after a promotion, live or stored."""
