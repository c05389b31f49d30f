"""Inputs of a training: grids or pixels, computed once an image and cached."""
