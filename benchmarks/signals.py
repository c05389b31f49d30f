"""The signals that a draft's score is made of: what they cost a draft, and how well they tell which drafts are right.

    python -m benchmarks.signals --data flickr8k [--quick]

The starter drafts Flickr8k's dev photos in one thread. A draft counts as accepted where one of the photo's five
references can be had from it by editing at most a third of the reference's words: within one word there are too few.
Chances are cross-fitted: each is learned from other drafts. But what is expected of weights was found on these photos.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.report import report
from training.captioner import checkpoint
from training.captioner.bundled import starter
from training.captioner.captioner import Captioner
from training.data import datasets, manifest
from training.decoding.beam_search import Hypothesis
from training.decoding.signals import Signals
from training.errors import TrainingError
from training.metrics.words import word_edits
from training.selection import calibration
from training.selection.calibration import EXPECTED, FOLDS, Reliability, cross_fitted, folds, reliability
from training.vocabulary import tokenize

DRAFTED, TIMED = 1000, 40
MOST_EDITED = 1 / 3
FEW = (200, 400)
"""Drafts that are learned from, beside all of them; the mean of SEEDS draws."""
SEEDS = 4

MEANINGS = {
    "cost_share": "what signals add to the time of a draft (wanted: 0.05)",
    "same_captions": "share of photos whose caption is the same without them",
    "accepted": "share of drafts that count as accepted",
    "ece": "expected calibration error, 15 bins",
    "brier_gain": "by how much the Brier score is better than that of the share",
    "auroc": "how often an accepted draft has the higher chance",
    "auroc_without_length": "the same without the number of words",
    "auroc_log_probability": "the same by the log probability alone",
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, quick: bool) -> None:
    torch.set_num_threads(1)
    try:
        rows = datasets.read("flickr8k", data, split=manifest.DEV, limit=24 if quick else DRAFTED)
        captioner = checkpoint.load(starter(), "cpu").warm_up()
        figures = cost(captioner, [row.image for row in rows[: 2 if quick else TIMED]])
        drafts = captioner.caption([row.image for row in rows])
        pairs = [(each, row.references) for each, row in zip(drafts, rows, strict=True) if isinstance(each, Hypothesis)]
        values = np.array([each.signals for each, _ in pairs], dtype=np.float64)
        edited = np.array([_edited(each.text, texts) for each, texts in pairs])
        accepted = edited <= (np.median(edited) if quick else MOST_EDITED)
        report("signals", figures | quality(values, accepted, () if quick else FEW), MEANINGS)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error


def _edited(draft: str, references: Sequence[str]) -> float:
    """The share of a reference's words that must be edited, of the nearest one."""
    return min(word_edits(draft, text) / max(len(tokenize(text)), 1) for text in references)


def cost(captioner: Captioner, photos: list[Path]) -> dict[str, float]:
    """What signals add to the time that a draft takes without them, photo by photo; the median."""
    shares, same = [], []
    for photo in photos:
        began = time.process_time()
        grid = captioner.encode(np.stack([captioner.read(photo)]))
        encoded = time.process_time() - began
        plain, text = _seconds(lambda grid=grid: captioner.generate(grid)[0].text)  # type: ignore[misc]
        more, other = _seconds(lambda grid=grid: captioner.hypotheses(grid)[0].text)  # type: ignore[misc]
        again, _ = _seconds(lambda grid=grid: captioner.generate(grid)[0].text)  # type: ignore[misc]
        shares.append((more - (plain + again) / 2) / (encoded + plain))
        same.append(text == other)
    return {"cost_share": statistics.median(shares), "same_captions": float(np.mean(same))}


def _seconds(caption: Callable[[], str]) -> tuple[float, str]:
    began = time.process_time()
    with torch.inference_mode():
        text = caption()
    return time.process_time() - began, text


def quality(values: np.ndarray, accepted: np.ndarray, few: tuple[int, ...]) -> dict[str, float]:
    """How well chances from these signals (N, F) foretell what was `accepted` (N,), and how others do."""
    all_of_them = calibration.measured(values, accepted)
    length = Signals._fields.index("length")
    figures = {
        "accepted": all_of_them.base_rate,
        "ece": all_of_them.ece,
        "brier_gain": 1 - all_of_them.brier / all_of_them.base_brier,
        "auroc": all_of_them.auroc,
        "auroc_without_length": reliability(
            cross_fitted(np.delete(values, length, axis=1), accepted, np.delete(EXPECTED, length).tolist()), accepted
        ).auroc,
        "auroc_log_probability": calibration.measured(values[:, :1], accepted).auroc,
    }
    for number in (*few, len(accepted)):
        drawn = [np.random.default_rng(seed).permutation(len(accepted))[:number] for seed in range(SEEDS)]
        for name, chances in (("logistic", cross_fitted), ("unexpecting", unexpecting), ("isotonic", isotonic)):
            measured = [reliability(chances(values[some], accepted[some]), accepted[some]) for some in drawn]
            figures |= _means(f"{name}_{number}", measured)
    return figures


def _means(name: str, measured: list[Reliability]) -> dict[str, float]:
    gains = [1 - each.brier / each.base_brier for each in measured]
    aurocs = [each.auroc for each in measured if not math.isnan(each.auroc)]
    return {f"{name}_brier_gain": float(np.mean(gains)), f"{name}_auroc": float(np.mean(aurocs))}


def unexpecting(values: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """As `cross_fitted`, where nothing is expected of the weights."""
    return cross_fitted(values, accepted, ())


def isotonic(values: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """As `cross_fitted`, with an isotonic regression of the chances in place of these."""
    from sklearn.isotonic import IsotonicRegression

    fold, found = folds(accepted), np.zeros(len(accepted))
    for number in range(FOLDS):
        held = fold == number
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        model.fit(cross_fitted(values[~held], accepted[~held]), accepted[~held])
        learned = calibration.learned(values[~held], accepted[~held])
        found[held] = model.predict(learned.chances(values[held]))
    return found


if __name__ == "__main__":
    main()
