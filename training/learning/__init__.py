"""Training: stages, steps, losses, validation, resuming."""
