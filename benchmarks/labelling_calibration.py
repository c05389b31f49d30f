"""How far the scores of drafts can be trusted: chances learned from a curve's labels, measured on later drafts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.labelling import accepts, nearly_accepts, values
from training.selection import calibration
from training.selection.calibration import Reliability

LEAST_BASE_RATE = 0.05
"""Of drafts that are accepted; where fewer are, those that are nearly accepted count."""


def calibrated(curves: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], Reliability | None]:
    """The figures of these curves, and how reliable the chances are; None before there are enough labels."""
    rates = {rule: float(np.mean(np.concatenate([_accepted(each, rule) for each in curves]))) for rule in _RULES}
    counts_near = rates[accepts] < LEAST_BASE_RATE
    table = {
        "base_rate": rates[accepts],
        "near_base_rate": rates[nearly_accepts],
        "calibration_counts_near": float(counts_near),
    }
    found = [part for each in curves for part in _later(each, nearly_accepts if counts_near else accepts)]
    if not found:
        return table, None
    chances, accepted = (np.concatenate(parts) for parts in zip(*found, strict=True))
    measured = calibration.reliability(chances, accepted)
    table |= {
        "calibration_ece": measured.ece,
        "calibration_brier_gain": 1 - measured.brier / max(measured.base_brier, 1e-12),
        "calibration_auroc": measured.auroc,
    }
    return table, measured


_Rule = Callable[[str, Sequence[str]], bool]
_RULES: tuple[_Rule, ...] = (accepts, nearly_accepts)


def _later(curve: Mapping[str, Any], rule: _Rule) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each champion the chances of its drafts of the scored images, by what is learned from the drafts that were
    labelled before it was made, and which of them are accepted."""
    found = []
    labelled = np.array([rule(each["draft"], each["references"]) for each in curve["labels"]], bool)
    for point in curve["points"]:
        known = point["labels"]
        learned = calibration.fit(values(curve["labels"][:known]), labelled[:known]) if known else None
        if learned:
            accepted = [rule(each["draft"], references) for each, references in _scored(curve, point)]
            found.append((learned.chances(values(point["drafts"])), np.array(accepted, bool)))
    return found


def _accepted(curve: Mapping[str, Any], rule: _Rule) -> list[bool]:
    """Of the drafts of all champions but the base, for the scored images."""
    points = curve["points"][1:] or curve["points"]
    return [rule(each["draft"], references) for point in points for each, references in _scored(curve, point)]


def _scored(curve: Mapping[str, Any], point: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Sequence[str]]]:
    return list(zip(point["drafts"], curve["scored"], strict=True))
