"""Devices, and what to do when their memory runs out."""
