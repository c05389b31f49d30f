from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training.captioner.captioner import Captioner
from training.continual import interpolation
from training.data import manifest
from training.data.manifest import Row
from training.networks.encoder import features_hash

WORDS = ("runs", "jumps", "sleeps", "swims")


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


def test_what_says_the_most_of_the_new_and_of_the_known_is_chosen(
    pair: tuple[Captioner, Captioner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = pair
    captions = [f"a {animal} {doing} over there" for animal in ("dog", "cat", "bird") for doing in WORDS]
    new, known = (
        [Row(tmp_path / f"{kind}{n}", f"{kind}{n}", (text,), manifest.DEV) for n, text in enumerate(captions)]
        for kind in ("new", "known")
    )
    right = {1.0: (12, 0), 0.75: (9, 9), 0.5: (3, 12)}  # captions of new and of known rows

    def said(share: float, rows: list[Row], *_: object) -> list[SimpleNamespace]:
        counts = dict(zip(("new", "known"), right[share], strict=True))
        numbers = [(row.sha256.rstrip("0123456789"), captions.index(row.references[0])) for row in rows]
        texts = [captions[number] if number < counts[kind] else "what" for kind, number in numbers]
        return [SimpleNamespace(text=text) for text in texts]

    monkeypatch.setattr(interpolation, "interpolate", lambda before, after, share: share)
    monkeypatch.setattr(interpolation, "hypotheses", said)
    monkeypatch.setattr(interpolation, "FEWEST_ROWS", len(captions))
    best = interpolation.best_interpolation
    assert best(before, after, [new, known], [], tmp_path) == (0.75, 0.75)
    assert best(before, after, [new, known[:4]], [], tmp_path) == (1.0, 1.0), "too few known rows do not count"
    assert best(before, after, [new[:4], ()], [], tmp_path) == (after, 1.0)
    assert best(before, after, [new[:4], known], [], tmp_path) == (after, 1.0), "known rows alone would forget the new"
    assert best(before, after, [new[:4], ()], [], tmp_path, usual=0.5) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("shown", "usual", "share"),
    [
        ({1.0: 10, 0.75: 9, 0.5: 8}, 0.5, 0.5),
        ({1.0: 10, 0.75: 8, 0.5: 7}, 0.5, 0.75),
        ({1.0: 10, 0.75: 7, 0.5: 0}, 0.5, 1.0),
        ({1.0: 5, 0.75: 4, 0.5: 9}, 0.75, 0.75),
        ({1.0: 0, 0.75: 0, 0.5: 0}, 0.5, 0.5),
    ],
)
def test_with_few_rows_it_goes_as_far_as_new_words_show(
    pair: tuple[Captioner, Captioner],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shown: dict[float, int],
    usual: float,
    share: float,
) -> None:
    before, after = pair
    learned = [Row(tmp_path / f"{n}", f"{n}", ("a purple star",), manifest.TRAIN) for n in range(10)]
    others = [Row(tmp_path / f"{n}", f"{n}", ("a dog",), manifest.TRAIN) for n in range(10, 20)]

    def said(captioner: float | Captioner, rows: list[Row], *_: object, **__: object) -> list[SimpleNamespace]:
        assert rows == learned
        count = shown[captioner if isinstance(captioner, float) else 1.0]
        return [SimpleNamespace(text="A star." if n < count else "What is here?") for n in range(len(rows))]

    monkeypatch.setattr(interpolation, "interpolate", lambda before, after, share: share)
    monkeypatch.setattr(interpolation, "hypotheses", said)
    found = interpolation.best_interpolation(before, after, [(), ()], [*learned, *others], tmp_path, usual=usual)
    assert found == ((after, 1.0) if share == 1.0 else (share, share))
