"""Champions in memory, and drafts by them: the one door to torch for web processes."""
