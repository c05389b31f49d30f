"""The image-text mismatch check: do captions belong to their images?

An import that is off by one row gives every image the caption of another. Retrained carefully on such captions a
captioner loses little at once, so that its scores alone may not show the mistake. But a captioner finds a caption more
probable for its own image than for another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.data.manifest import Row
from training.features.batches import batches
from training.features.features import Inputs
from training.learning.losses import target_mask
from training.runtime.device import autocast
from training.vocabulary import tokenize

Z = 1.96  # of the two-sided 95 % interval


@dataclass(frozen=True)
class ImageTextMatch:
    """Of `captions` captions, how many are more probable for their `own` image than for another."""

    captions: int
    own: int

    def bound(self, side: int) -> float:
        """Wilson's bound (1927) of the share `own`, the lower for `side` -1 and the upper for 1."""
        if not self.captions:
            return 0.5 + 0.5 * side
        n, share = self.captions, self.own / self.captions
        spread = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
        return (share + Z * Z / (2 * n) + side * spread) / (1 + Z * Z / n)


def mismatch(new: ImageTextMatch, trusted: ImageTextMatch) -> str | None:
    """A sentence on why the new captions seem to be those of other images; None where they do not.

    By chance half of them are more probable for their own image. They are doubted where the upper bound of their share
    is nearer to a half than to the share of captions that are trusted.
    """
    reached = trusted.bound(-1)
    if reached <= 0.5 or new.bound(1) >= (0.5 + reached) / 2:
        return None
    return (
        f"{new.own} of {new.captions} new captions are likelier beside their own image than beside another, and "
        f"{trusted.own} of {trusted.captions} held-out ones: the new ones seem to belong to other images"
    )


@torch.inference_mode()
def image_text_match(
    captioner: Captioner, rows: Sequence[Row], cache_dir: Path, progress: Callable[[int, int], None] | None = None
) -> ImageTextMatch:
    """Compare the first caption of each row with its image and with the next image by hash.

    Captions with unknown words are left out: the captioner has no probability for them. `progress` gets captions done
    and captions to do, also while images are only being read.
    """
    captioner.eval()
    known = set(captioner.vocabulary.words)
    asked = {row.sha256: row for row in rows if row.references and known.issuperset(tokenize(row.references[0]))}
    report = progress or (lambda done, total: None)
    compared = [asked[name] for name in sorted(asked)]
    # in the views that they are learned from, so that no others are encoded of the new images
    inputs = Inputs(captioner, compared, cache_dir, lambda *_: report(0, len(asked)), two_views=compared)
    if len(inputs.rows) < 2:
        return ImageTextMatch(0, 0)
    others = [*(row.sha256 for row in inputs.rows[1:]), inputs.rows[0].sha256]
    own = done = 0
    for batch in batches(inputs.rows, TrainingConfig(), captioner):
        words = batch.words[:, :1]  # (B, 1, T)
        here = _log_likelihoods(captioner, inputs.grid(batch.hashes), words)
        there = _log_likelihoods(captioner, inputs.grid(others[done : done + len(here)]), words)
        own, done = own + int((here > there).sum()), done + len(here)
        report(done, len(inputs.rows))
    return ImageTextMatch(done, own)


def _log_likelihoods(captioner: Captioner, grid: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Log-likelihoods (B,) of captions `words` (B, 1, T) for images `grid` (B, P, C)."""
    with autocast(captioner.device):
        logits = captioner.decoder.logits(captioner.decoder(grid.float(), words[:, :, :-1]).states)  # (B, 1, T, V)
    chosen = logits.float().log_softmax(dim=-1).gather(3, words[:, :, 1:, None]).squeeze(3)  # (B, 1, T)
    return (chosen * target_mask(words)).sum(dim=(1, 2))
