"""A retrain from frozen corrections to a verdict."""
