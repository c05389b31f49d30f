"""Learning on from a champion without forgetting what it knows."""
