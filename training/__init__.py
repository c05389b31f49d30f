"""A captioner from images and captions: a CNN encoder and a recurrent decoder. Knows nothing of Label Studio.

`load` gives a captioner to Python programs; docs/python.md has examples.
"""

from training.captioner.api import Caption, ImageCaptioner, load
from training.errors import CheckpointError, ConfigError, DataError, TrainingError, WeightsError

__all__ = [
    "Caption",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ImageCaptioner",
    "TrainingError",
    "WeightsError",
    "load",
]
