"""Every choice of a training, as frozen values that are checked together and stored beside the weights."""

from training.config.base import Config
from training.config.captioner import (
    ARCHITECTURES,
    DecoderConfig,
    DecodingConfig,
    EncoderConfig,
    TransformConfig,
)
from training.config.training import TrainingConfig

__all__ = [
    "ARCHITECTURES",
    "Config",
    "DecoderConfig",
    "DecodingConfig",
    "EncoderConfig",
    "TrainingConfig",
    "TransformConfig",
]
