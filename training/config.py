"""Every choice of a training, as frozen values that are checked together and stored beside the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from training.errors import ConfigError

ENCODERS = ("small_cnn", "mobilenet_v2", "resnet50")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Config:
    """Base of all configs: JSON both ways, and every mistake in one message."""

    def mistakes(self) -> list[str]:
        """What is wrong with the values of this config, one phrase each."""
        return []

    def validate(self) -> Self:
        """This config. Raises ConfigError naming every mistake, those of the nested configs too."""
        mistakes = self.all_mistakes()
        if mistakes:
            raise ConfigError(f"The {type(self).__name__} is wrong: {'; '.join(mistakes)}.")
        return self

    def all_mistakes(self) -> list[str]:
        found = self.mistakes()
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Config):
                found += [f"{item.name}.{mistake}" for mistake in value.all_mistakes()]
        return found

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises ConfigError for unknown or wrongly typed values. Absent values take their defaults."""
        known = {item.name: item for item in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"A {cls.__name__} has no value called {', '.join(unknown)}.")
        given: dict[str, Any] = {}
        for name, value in values.items():
            default = _default(known[name])
            if isinstance(default, Config):
                given[name] = type(default).from_json(value)
            elif isinstance(value, list):
                given[name] = tuple(value)
            else:
                given[name] = value
        try:
            return cls(**given).validate()
        except TypeError as error:
            raise ConfigError(f"A {cls.__name__} cannot be made of {dict(values)}: {error}.") from error


@dataclass(frozen=True)
class EncoderConfig(Config):
    """The CNN: `weights` is "imagenet" (torchvision's download), "none", or the path of a state dict.

    `trained`: "none" keeps it frozen (its features can be cached), "all" trains it together with the decoder.
    """

    name: str = "mobilenet_v2"
    weights: str = "imagenet"
    trained: Literal["none", "all"] = "none"

    def mistakes(self) -> list[str]:
        found = []
        if self.name not in ENCODERS:
            found.append(f"name is {self.name!r}, not one of {', '.join(ENCODERS)}")
        if self.trained not in {"none", "all"}:
            found.append(f"trained is {self.trained!r}, not 'none' or 'all'")
        if not self.weights:
            found.append("weights is empty, not 'imagenet', 'none' or a file")
        if self.name == "small_cnn" and self.weights == "imagenet":
            found.append("weights is 'imagenet', which small_cnn has none of: 'none' or a file is needed")
        return found

    def without_path(self) -> EncoderConfig:
        """The same, with a weights file reduced to its name: what a checkpoint may record."""
        if self.weights in {"imagenet", "none"}:
            return self
        return dataclasses.replace(self, weights=Path(self.weights).name)


@dataclass(frozen=True)
class TransformConfig(Config):
    """How an image file becomes pixels: squashed to `side` x `side`, RGB, normalised per channel."""

    side: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def mistakes(self) -> list[str]:
        found = []
        if not 32 <= self.side <= 1024:
            found.append(f"side is {self.side}, not from 32 to 1024")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std, default=0) <= 0:
            found.append("mean and std need three numbers each, std above zero")
        return found


@dataclass(frozen=True)
class DecoderConfig(Config):
    """Sizes of the recurrent decoder; `heads` is the number of attention heads, a divisor of `hidden`."""

    embedding: int = 384
    hidden: int = 512
    heads: int = 4

    def mistakes(self) -> list[str]:
        found = [f"{name} is {size}, not at least 1" for name, size in self.to_json().items() if size < 1]
        if not found and self.hidden % self.heads:
            found.append(f"hidden ({self.hidden}) is not a multiple of heads ({self.heads})")
        return found


@dataclass(frozen=True)
class DecodingConfig(Config):
    """Beam search. A hypothesis of n words scores log p / (n + 1) ** length_penalty; the 1 is its end token."""

    beam: int = 5
    length_penalty: float = 0.9
    max_length: int = 24

    def mistakes(self) -> list[str]:
        found = []
        if not 1 <= self.beam <= 64:
            found.append(f"beam is {self.beam}, not from 1 to 64")
        if not 0 <= self.length_penalty <= 4:
            found.append(f"length_penalty is {self.length_penalty}, not from 0 to 4")
        if not 1 <= self.max_length <= 200:
            found.append(f"max_length is {self.max_length}, not from 1 to 200")
        return found

    def signature(self) -> str:
        """What must be the same for two evaluations to be comparable."""
        return f"beam:{self.beam}|penalty:{self.length_penalty:g}|max:{self.max_length}"


@dataclass(frozen=True)
class TrainingConfig(Config):
    """A whole training. On a warm start encoder, decoder, transform and decoding are the checkpoint's own."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    transform: TransformConfig = field(default_factory=TransformConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    epochs: int = 15
    batch_size: int = 32  # images
    captions_per_image: int = 5  # at most, drawn anew each epoch
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 1e-3  # only where encoder.trained is "all"
    warmup_share: float = 0.05  # of all steps; after it the rate falls to zero as a half cosine
    label_smoothing: float = 0.1
    dropout: float = 0.4
    weight_decay: float = 0.01
    clip: float = 1.0  # greatest norm of the gradient
    min_count: int | None = None  # of a word to be learned; None: 1 for small sets, 4 from 10,000 captions on
    patience: int = 3  # epochs without a better dev loss before stopping; 0: never stop early
    shift: int = 0  # random shift of the image in pixels, where the encoder is trained
    seed: int = 1

    def mistakes(self) -> list[str]:
        found = []
        for name in ("epochs", "batch_size", "captions_per_image"):
            if getattr(self, name) < 1:
                found.append(f"{name} is {getattr(self, name)}, not at least 1")
        for name in ("learning_rate", "encoder_learning_rate", "clip"):
            if getattr(self, name) <= 0:
                found.append(f"{name} is {getattr(self, name)}, not above zero")
        for name in ("warmup_share", "label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                found.append(f"{name} is {getattr(self, name)}, not from 0 to below 1")
        for name in ("weight_decay", "patience", "shift", "seed"):
            if getattr(self, name) < 0:
                found.append(f"{name} is {getattr(self, name)}, below zero")
        if self.min_count is not None and self.min_count < 1:
            found.append(f"min_count is {self.min_count}, not at least 1")
        return found

    @classmethod
    def photos(cls, encoder: str = "mobilenet_v2", weights: str = "imagenet", **changes: Any) -> TrainingConfig:
        """For photographs, on a frozen encoder with ImageNet weights whose features are computed once.

        With weights "none" the encoder has nothing to keep frozen and is trained from nothing.
        """
        trained: Literal["none", "all"] = "all" if weights == "none" else "none"
        transform = TransformConfig() if encoder != "small_cnn" else _small_transform()
        config = cls(encoder=EncoderConfig(encoder, weights, trained), transform=transform)
        return dataclasses.replace(config, **changes).validate()

    @classmethod
    def starter(cls, **changes: Any) -> TrainingConfig:
        """For the generated scenes: a small CNN from nothing, together with a small decoder, in about a minute."""
        config = cls(
            encoder=EncoderConfig("small_cnn", "none", "all"),
            decoder=DecoderConfig(embedding=64, hidden=128, heads=4),
            transform=_small_transform(),
            epochs=18,
            batch_size=16,  # many small steps: each scene has little to say, and the CNN begins from nothing
            captions_per_image=2,
            learning_rate=4e-3,
            encoder_learning_rate=4e-3,
            label_smoothing=0.0,  # the scenes' grammar leaves nothing to doubt but the choice of phrase
            dropout=0.1,
            shift=2,
            patience=0,
        )
        return dataclasses.replace(config, **changes).validate()

    @classmethod
    def retraining(cls, encoder: EncoderConfig | None = None, **changes: Any) -> TrainingConfig:
        """For learning corrections (with a replay sample of what was learned before) from a champion.

        `encoder` is the champion's: a small one that is trained together with its decoder learns in larger steps.
        """
        if encoder is not None and encoder.trained == "all":
            config = cls.starter(epochs=25, learning_rate=3e-3, encoder_learning_rate=3e-3, min_count=1)
        else:
            config = cls(epochs=12, batch_size=32, captions_per_image=2, learning_rate=2e-4, min_count=1)
        return dataclasses.replace(config, **changes).validate()


def _small_transform() -> TransformConfig:
    return TransformConfig(side=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
