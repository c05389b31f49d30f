from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from training.captioner.captioner import Captioner
from training.continual import interpolation
from training.data import manifest
from training.data.manifest import Row
from training.networks.encoder import features_hash


@pytest.fixture
def pair(tiny: Captioner) -> tuple[Captioner, Captioner]:
    """A captioner and what it became: other decoder weights and two words more."""
    before, after = tiny, copy.deepcopy(tiny)
    after.extend_vocabulary(after.vocabulary.extended(["purple star"]))
    with torch.no_grad():
        for value in after.decoder.parameters():
            value.add_(torch.randn_like(value))
    return before, after


def test_the_ends_are_the_two_captioners(pair: tuple[Captioner, Captioner]) -> None:
    before, after = pair
    whole, none = (
        interpolation.interpolate(before, after, 1.0).state_dict(),
        interpolation.interpolate(before, after, 0.0).state_dict(),
    )
    for name, value in after.state_dict().items():
        torch.testing.assert_close(whole[name], value)
        old = before.state_dict()[name]
        torch.testing.assert_close(none[name][: len(old)] if value.dim() else none[name], old)


def test_halfway_is_the_mean_and_new_words_stay_as_they_were_learnt(pair: tuple[Captioner, Captioner]) -> None:
    before, after = pair
    half = interpolation.interpolate(before, after, 0.5)
    old, new = before.decoder.decoders[0].embedding.weight, after.decoder.decoders[0].embedding.weight
    torch.testing.assert_close(half.decoder.decoders[0].embedding.weight[: len(old)], (old + new[: len(old)]) / 2)
    torch.testing.assert_close(half.decoder.decoders[0].embedding.weight[len(old) :], new[len(old) :])
    assert half.vocabulary == after.vocabulary


def test_an_encoder_that_did_not_change_keeps_its_features(pair: tuple[Captioner, Captioner]) -> None:
    before, after = pair
    blended = interpolation.interpolate(before, after, 0.25)
    assert features_hash(blended.encoder, blended.transform) == features_hash(before.encoder, before.transform)


def test_the_blend_that_says_what_the_corrections_say_is_chosen(
    pair: tuple[Captioner, Captioner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = pair
    rows = [Row(tmp_path / str(n), str(n), ("a dog runs over there",), manifest.DEV) for n in range(12)]
    right = {0.75: 9, 0.5: 9, 1.0: 3, 0.25: 0}

    class Said:
        def __init__(self, text: str) -> None:
            self.text = text

    monkeypatch.setattr(interpolation, "interpolate", lambda before, after, share: share)
    monkeypatch.setattr(
        interpolation,
        "hypotheses",
        lambda share, rows, *_: [Said("a dog runs over there" if n < right[share] else "cat") for n in range(12)],
    )
    assert interpolation.best_interpolation(before, after, rows, tmp_path) == (0.75, 0.75)
    assert interpolation.best_interpolation(before, after, rows[:4], tmp_path) == (after, 1.0)
