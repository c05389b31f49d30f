"""Every choice of a training, as frozen values that are checked together and stored beside the weights."""

from training.config.base import Config
from training.config.captioner import (
    ARCHITECTURES,
    ENCODERS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    SIDES,
    DecoderConfig,
    DecodingConfig,
    EncoderConfig,
    TransformConfig,
)
from training.config.training import TrainingConfig

__all__ = [
    "ARCHITECTURES",
    "ENCODERS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "SIDES",
    "Config",
    "DecoderConfig",
    "DecodingConfig",
    "EncoderConfig",
    "TrainingConfig",
    "TransformConfig",
]
