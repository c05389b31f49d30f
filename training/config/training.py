"""How a captioner is trained: the options of the recipe, and presets that are known to work."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from training.config.base import Config, Count, Natural, PartialShare, Positive, Share
from training.config.captioner import DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.config.encoders import described

LARGE_SIDE = 320
"""Pixels of the side of photographs for a frozen encoder."""
LEAST_STEPS, MOST_EPOCHS = 600, 100
"""Optimisation steps that a training on photographs needs, and the most epochs that a small set is repeated for."""
FEW_CAPTIONS = 15_000
"""Of photographs: with fewer captions than this all are learned, whether they agree or not."""


@dataclass(frozen=True)
class TrainingConfig(Config):
    """A whole training. On a warm start encoder, decoder, transform and decoding are those of the checkpoint.

    `frozen_epochs` of the decoder alone come first, then `epochs` of everything that is trained, then
    `self_critical_epochs` on rewards. `captions_per_image` are sampled anew each epoch, out of the `agreed_captions`
    that agree best with the image's others (0: all). `distillation` is the share of the loss that is the cross-entropy
    to the predictions of the captioner that a warm start begins with. The share of `scheduled_sampling` rises linearly
    from 0. `augmented`: half of the images are mirrored where their captions allow it, and images for a frozen encoder
    are shown in a random mixture of two views each time.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    transform: TransformConfig = field(default_factory=TransformConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    epochs: Natural = 15
    frozen_epochs: Natural = 0
    self_critical_epochs: Natural = 0
    batch_size: Count = 32  # images
    captions_per_image: Count = 5
    agreed_captions: Natural = 0
    learning_rate: Positive = 1e-3
    distillation: Share = 0.0
    label_smoothing: PartialShare = 0.1
    scheduled_sampling: Share = 0.0  # share of the words read that the decoder chose itself
    dropout: PartialShare = 0.4
    grid_dropout: PartialShare = 0.0  # of the encoder's features
    augmented: bool = False
    seed: Natural = 1

    def mistakes(self) -> list[str]:
        if not any((self.epochs, self.frozen_epochs, self.self_critical_epochs)):
            return ["epochs is 0, and so are frozen_epochs and self_critical_epochs: there is nothing to do"]
        if self.decoding.neighbours and self.encoder.trained != "none":
            return [
                f"decoding.neighbours is {self.decoding.neighbours}, which needs a frozen encoder, "
                f"but encoder.trained is {self.encoder.trained!r}: set the first to 0 or the second to 'none'"
            ]
        return []

    @property
    def chosen_by(self) -> Literal["loss", "cider_d"]:
        """The score on the development rows that chooses the epoch.

        The captions of a CNN that is trained from nothing are poor for most of a training, its loss tells more.
        """
        return "loss" if self.encoder.weights == "none" else "cider_d"

    @classmethod
    def photos(
        cls,
        encoder: str = "tf_efficientnet_lite2",
        weights: str = "imagenet",
        *,
        images: int | None = None,
        captions: int | None = None,
        **changes: Any,
    ) -> TrainingConfig:
        """For photographs, on a frozen encoder with ImageNet weights whose features are computed once.

        The images are larger than the encoder was trained on: small objects then fill a cell of its grid (Touvron et
        al., 2019). With weights "none" the encoder is trained from nothing. Where the number of `images` and `captions`
        to learn from is given, few images are repeated for more epochs, and few captions are all learned.
        """
        trained: Literal["none", "all"] = "all" if weights == "none" else "none"
        side = described(encoder).side
        transform = TransformConfig(side if trained == "all" or encoder == "small_cnn" else max(side, LARGE_SIDE))
        config = cls(encoder=EncoderConfig(encoder, weights, trained), transform=transform)
        if trained == "none":
            config = dataclasses.replace(
                config,
                # the stage before the last shows more of what things look like than the classes it was trained for
                encoder=dataclasses.replace(config.encoder, feature_stages=2, views=((1.4, False), (0.8, True))),
                decoder=DecoderConfig(ensemble=2),
                # at a penalty of 0.9 captions are a word and a half longer, and worse
                decoding=DecodingConfig(beam=10, length_penalty=0.7, neighbours=20),
                epochs=7,
                captions_per_image=3,
                # what only one of five people mentions cannot be learned from few photographs
                agreed_captions=3 if captions is None or captions >= FEW_CAPTIONS else 0,
                augmented=True,  # few photographs are soon overfitted
                learning_rate=2e-3,
                dropout=0.5,
                grid_dropout=0.3,
            )
        if images:
            steps = math.ceil(images / changes.get("batch_size", config.batch_size))  # of an epoch
            epochs = max(config.epochs, min(MOST_EPOCHS, math.ceil(LEAST_STEPS / steps)))
            config = dataclasses.replace(config, epochs=epochs)
        return dataclasses.replace(config, **changes).validate()

    @classmethod
    def rewarded(cls, epochs: int = 2, **changes: Any) -> TrainingConfig:
        """Self-critical training alone, from a checkpoint that has learned from human captions."""
        config = cls(
            self_critical_epochs=epochs,
            epochs=0,
            captions_per_image=1,  # beside the sampled ones: a tenth of the loss
            agreed_captions=3,
            augmented=True,
        )
        return dataclasses.replace(config, **changes).validate()

    @classmethod
    def starter(cls, **changes: Any) -> TrainingConfig:
        """For the generated scenes: a small CNN and a small decoder, both from nothing, in about a minute."""
        config = cls(
            encoder=EncoderConfig("small_cnn", "none", "all"),
            decoder=DecoderConfig(embedding=64, hidden=128, heads=4),
            transform=TransformConfig(described("small_cnn").side),
            epochs=18,
            batch_size=16,  # many small steps, for a scene is simple and the CNN starts from nothing
            captions_per_image=2,
            learning_rate=4e-3,
            label_smoothing=0.0,  # nothing in a scene is ambiguous but the choice of phrase
            dropout=0.1,
        )
        return dataclasses.replace(config, **changes).validate()

    @classmethod
    def retraining(cls, encoder: EncoderConfig | None = None, **changes: Any) -> TrainingConfig:
        """For learning corrections, and a replay sample of what was learned before, from a champion.

        `encoder` is the champion's. The small CNN of the scenes is trained on with its decoder, at a higher rate; any
        other is frozen, so that its features are computed once.
        """
        if encoder is not None and (encoder.name, encoder.trained) == ("small_cnn", "all"):
            config = cls.starter(epochs=25, learning_rate=3e-3)
        else:
            # all captions are learned, for among corrections the odd one out may be the right one
            config = cls(
                epochs=8,
                captions_per_image=3,  # of a replayed image; with one, drafts of what the base knows get the new words
                distillation=0.5,  # a single caption of an image is soon overfitted
                learning_rate=2e-3,
                dropout=0.5,
                grid_dropout=0.3,
            )
            if encoder is not None and encoder.trained != "none":
                config = dataclasses.replace(config, frozen_epochs=config.epochs, epochs=0)
        return dataclasses.replace(config, **changes).validate()
