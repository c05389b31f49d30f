"""How a captioner is trained: every choice of the recipe, and the recipes that are known to work."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from training.config.base import Config, choice, number
from training.config.captioner import SIDES, DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig

LARGE_SIDE = 320
"""Pixels of the side of photographs for an encoder that is kept as it is."""
LEAST_STEPS, MOST_EPOCHS = 600, 100
"""What a training on photographs needs, and how often it goes through a handful of them to get there."""
FEW_CAPTIONS = 15_000
"""Of photographs, below which none can be spared."""
FINE_TUNING = 3e-5
"""Learning rate of an encoder that has learned before: more spoils what it knows."""


@dataclass(frozen=True)
class SelfCriticalConfig(Config):
    """The second stage: captions drawn from the captioner itself, rewarded by their scores (Rennie et al., 2017).

    Its `dropout` is of words and of the grid: without it the training images' rewards are soon known by heart. What
    rewards teach is large and unsteady: by its `averaging` of 1 the captioner is the mean of all that it has been since
    they began, what it was before among it.

    The reward is CIDEr-D against the training captions; each caption is measured against the mean of the image's other
    `samples` - 1. Of a decoder's members each draws and learns its part of them, rounded up, and all are measured
    together. `likelihood_share` of the loss stays that of the first stage, which keeps captions from becoming short and
    flat.

    What is drawn from and learned is the distribution at `temperature`. A captioner that learned with smoothed labels
    gives all words together a tenth of every choice, so that at 1 most of what it draws is spoilt by an improbable one.
    """

    epochs: int = number(0, least=0)  # 0: there is no second stage
    samples: int = number(10, least=2)
    temperature: float = number(0.5, above=0)
    learning_rate: float = number(3e-4, above=0)
    likelihood_share: float = number(0.1, least=0, most=1)
    dropout: float = number(0.5, least=0, below=1)
    averaging: float = number(1.0, least=0, most=1)  # decay a step; 0: the last weights
    min_length: int = number(1, least=1)


@dataclass(frozen=True)
class TrainingConfig(Config):
    """A whole training. On a warm start encoder, decoder, transform and decoding are the checkpoint's own."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    transform: TransformConfig = field(default_factory=TransformConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    self_critical: SelfCriticalConfig = field(default_factory=SelfCriticalConfig)
    epochs: int = number(15, least=0)
    least_steps: int = number(0, least=0)  # of the epochs: a small set is gone through more often until it makes them
    frozen_epochs: int = number(0, least=0)  # before them, the encoder kept as it is: two steps instead of joint
    batch_size: int = number(32, least=1)  # images
    captions_per_image: int = number(5, least=1)  # at most, drawn anew each epoch
    agreed_captions: int = number(0, least=0)  # of an image, those its others agree with most; 0: all are learned
    agreed_from: int = number(0, least=0)  # so many captions on; of fewer all are learned
    learning_rate: float = number(1e-3, above=0)
    encoder_learning_rate: float | None = number(None, above=0)  # None: the decoder's from nothing, else FINE_TUNING
    fine_tuning_rate: float = number(2e-4, above=0)  # of the decoder in the second of two steps
    schedule: Literal["cosine", "linear", "constant"] = choice("cosine", "linear", "constant")
    warmup_share: float = number(0.05, least=0, below=1)  # of all steps, rising; then the rate falls to zero, or stays
    distillation: float = number(
        0.0, least=0, most=1
    )  # share of what is learned that the start expects, on a warm start
    label_smoothing: float = number(0.1, least=0, below=1)
    scheduled_sampling: float = number(0.0, least=0, most=1)  # share of words read that are its own; it rises from 0
    attention_penalty: float = number(0.0, least=0)  # on cells that a caption looks at more or less than once
    dropout: float = number(0.4, least=0, below=1)
    grid_dropout: float = number(0.0, least=0, below=1)  # of what is seen: few images are soon known by heart
    weight_decay: float = number(0.01, least=0)
    clip: float = number(1.0, above=0)  # greatest norm of the gradient
    averaging: float = number(0.0, least=0, below=1)  # decay a step of the average of weights; 0: the last weights
    min_count: int | None = number(None, least=1)  # of a word to be learned; None: 1 for small sets, 4 for large ones
    choose_by: Literal["loss", "cider_d"] = choice("loss", "cider_d")  # on the dev rows, which epoch is kept
    patience: int = number(3, least=0)  # epochs without a better dev score before stopping; 0: never stop early
    mirrored: bool = False  # half of the images are seen in a mirror, as far as their captions allow
    varied_looks: bool = False  # frozen encoders' images are learned from anew each time: between two looks at them
    shift: int = number(0, least=0)  # random shift of the image in pixels, where the encoder is trained
    seed: int = number(1, least=0)

    def mistakes(self) -> list[str]:
        if not any((self.epochs, self.frozen_epochs, self.self_critical.epochs)):
            return ["epochs is 0, and so are frozen_epochs and self_critical.epochs: there is nothing to do"]
        if self.decoding.neighbours and self.encoder.trained != "none":
            return [
                f"decoding.neighbours is {self.decoding.neighbours}, which needs an encoder that stays as it is, "
                f"but encoder.trained is {self.encoder.trained!r}: set the first to 0 or the second to 'none'"
            ]
        return []

    def for_rows(self, images: int, captions: int) -> TrainingConfig:
        """The same for so many images and captions to learn from: with the epochs that `least_steps` takes, MOST_EPOCHS
        at most, and all captions where there are few."""
        if not self.epochs or not images:
            return self
        needed = min(MOST_EPOCHS, math.ceil(self.least_steps / math.ceil(images / self.batch_size)))
        agreed = self.agreed_captions if captions >= self.agreed_from else 0
        epochs = max(self.epochs, needed)
        return dataclasses.replace(self, epochs=epochs, least_steps=0, agreed_captions=agreed, agreed_from=0)

    @classmethod
    def photos(cls, encoder: str = "mobilenet_v2", weights: str = "imagenet", **changes: Any) -> TrainingConfig:
        """For photographs, on a frozen encoder with ImageNet weights whose features are computed once.

        It sees them larger than it was made for: small things then fill a cell of its grid (Touvron et al., 2019). With
        weights "none" the encoder has nothing to keep frozen and is trained from nothing. Where `epochs` and
        `agreed_captions` are given, they hold also for little to learn from.
        """
        trained: Literal["none", "all"] = "all" if weights == "none" else "none"
        side = SIDES.get(encoder, 224) if trained == "all" else max(SIDES.get(encoder, 224), LARGE_SIDE)
        transform = _small_transform() if encoder == "small_cnn" else TransformConfig(side)
        config = cls(encoder=EncoderConfig(encoder, weights, trained), transform=transform, least_steps=LEAST_STEPS)
        if trained == "none":
            config = dataclasses.replace(
                config,
                # a frozen encoder was made to tell things apart: what they look like stands one level before
                encoder=dataclasses.replace(
                    config.encoder, levels=2, mirror_mean=True, alternate=True, scales=(1.4, 0.8)
                ),
                decoder=DecoderConfig(ensemble=2),
                # at a penalty of 0.9 captions are a word and a half longer, and worse
                decoding=DecodingConfig(beam=10, length_penalty=0.7, neighbours=20),
                epochs=7,
                captions_per_image=3,
                agreed_captions=3,  # what one of five people saw cannot be learned from so few photos
                agreed_from=FEW_CAPTIONS,
                varied_looks=True,
                mirrored=True,  # few photos are soon known by heart: better seen twice than seen dimly
                learning_rate=2e-3,
                dropout=0.5,
                grid_dropout=0.3,
                averaging=0.999,
                choose_by="cider_d",
                patience=0,  # the best epochs are those in which the learning rate comes down
            )
        if "epochs" in changes:
            config = dataclasses.replace(config, least_steps=0)
        if "agreed_captions" in changes:
            config = dataclasses.replace(config, agreed_from=0)
        return dataclasses.replace(config, **changes).validate()

    @classmethod
    def rewarded(cls, self_critical_epochs: int = 2, **changes: Any) -> TrainingConfig:
        """The second stage alone, from a checkpoint that has learned from human captions."""
        config = cls(
            self_critical=SelfCriticalConfig(epochs=self_critical_epochs),
            epochs=0,
            captions_per_image=1,  # beside the drawn ones, of a tenth of the loss
            agreed_captions=3,
            varied_looks=True,
            mirrored=True,
            choose_by="cider_d",
            patience=0,
        )
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

        `encoder` is the champion's: the small one learns on with its decoder, in larger steps; any other rests,
        so that its features are computed once.
        """
        if encoder is not None and (encoder.name, encoder.trained) == ("small_cnn", "all"):
            config = cls.starter(epochs=25, learning_rate=3e-3, encoder_learning_rate=3e-3, min_count=1)
        else:
            # All captions of an image are learned: of corrections the odd one out may be the one that is right.
            config = cls(
                epochs=3,
                batch_size=32,
                captions_per_image=2,
                distillation=0.7,  # one caption of an image teaches little, and is soon known by heart
                learning_rate=1e-3,
                dropout=0.3,
                grid_dropout=0.1,
                averaging=0.99,
                min_count=1,
            )
            if encoder is not None and encoder.trained != "none":
                config = dataclasses.replace(config, frozen_epochs=config.epochs, epochs=0)
        return dataclasses.replace(config, **changes).validate()


def _small_transform() -> TransformConfig:
    return TransformConfig(side=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
