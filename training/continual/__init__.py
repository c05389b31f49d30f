"""Continual learning: retraining a champion on corrections without forgetting what it knows."""
