"""Retraining a champion: what is replayed, and that the new is learnt and the old kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import EncoderConfig, TrainingConfig
from training.continual import incremental
from training.continual.incremental import (
    FEW_REPLAYED,
    LEAST_REPLAYED,
    LEAST_SHOWN,
    MOST_PER_NEW,
    MOST_REPEATED,
    RetrainingData,
    retrain,
)
from training.data import manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.evaluation.evaluate import hypotheses
from training.learning.train import train
from training.vocabulary import tokenize


def rows(name: str, number: int, caption: str = "a {} thing") -> list[Row]:
    return [Row(Path(f"{name}{n}.png"), f"{name}-{n}", (caption.format(name),), manifest.DEV) for n in range(number)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tiny: Captioner, tmp_path: Path) -> Callable[..., list[Row]]:
    """The rows that `retrain` would train on."""

    class EnoughError(Exception):
        pass

    found: list[Row] = []

    def stand_in(several: list[Row], *_: Any, **__: Any) -> None:
        found[:] = several
        raise EnoughError

    monkeypatch.setattr(incremental, "train", stand_in)
    # the images do not exist
    monkeypatch.setattr(incremental, "_in_style", lambda _, several, __: "Photo:" not in several[0].references[0])

    def run(data: RetrainingData, **options: Any) -> list[Row]:
        with pytest.raises(EnoughError):
            retrain(tiny, data, tmp_path / "out", cache_dir=tmp_path, **options)
        return list(found)

    return run


def counted(several: list[Row]) -> dict[str, int]:
    """How many rows there are of each kind."""
    names = [row.sha256.partition("-")[0] for row in several]
    return {name: names.count(name) for name in sorted(set(names))}


def distinct(several: list[Row]) -> dict[str, int]:
    return counted(list({row.sha256: row for row in several}.values()))


EPOCHS = TrainingConfig.retraining(EncoderConfig("small_cnn", "none", "none")).epochs


def test_the_cost_follows_what_is_new_however_much_is_known(asked: Callable[..., list[Row]]) -> None:
    small = asked(RetrainingData(rows("new", 200), rows("known", 900), rows("base", 3_000)))
    large = asked(RetrainingData(rows("new", 200), rows("known", 4_000), rows("base", 30_000)))
    assert counted(small) == {"base": 100 * EPOCHS, "known": 100 * EPOCHS, "new": 200 * EPOCHS}
    assert distinct(small) == {"base": 100 * EPOCHS, "known": 100 * EPOCHS, "new": 200}, "other rows in each epoch"
    assert counted(large) == counted(small)
    assert {row.split for row in large} == {manifest.TRAIN}


def test_what_there_is_little_of_is_replayed_several_times(asked: Callable[..., list[Row]]) -> None:
    found = asked(RetrainingData(rows("new", 200), rows("known", 10)))
    assert counted(found) == {"known": 200 * EPOCHS, "new": 200 * EPOCHS}
    assert counted(asked(RetrainingData(rows("new", 200)))) == {"new": 200 * EPOCHS}
    assert counted(asked(RetrainingData(rows("new", 200), rows("known", 100)), replay=0.0)) == {"new": 200 * EPOCHS}
    assert counted(asked(RetrainingData(rows("new", 200), rows("known", 900)), replay=2.5))["known"] == 500 * EPOCHS


def test_an_encoder_that_is_trained_along_replays_more(asked: Callable[..., list[Row]], tiny: Captioner) -> None:
    tiny.encoder.config = EncoderConfig("small_cnn", "none", "all")
    epochs = TrainingConfig.retraining(tiny.encoder.config).epochs
    found = counted(asked(RetrainingData(rows("new", 5), rows("known", 100), rows("base", 900))))
    assert found["new"] == 5 * epochs
    assert found["known"] + found["base"] == LEAST_REPLAYED * epochs


def test_few_new_rows_are_repeated_beside_enough_others(asked: Callable[..., list[Row]]) -> None:
    for new in (1, 20, 50, 100, 149):
        repeated = min(MOST_REPEATED, math.ceil(LEAST_SHOWN / new))
        found = counted(asked(RetrainingData(rows("new", new), rows("known", 900))))
        assert found == {"known": repeated * max(new, min(FEW_REPLAYED, MOST_PER_NEW * new)), "new": repeated * new}
    assert len(asked(RetrainingData(rows("new", 1)))) == MOST_REPEATED


def test_the_base_is_not_replayed_against_the_annotators_style(asked: Callable[..., list[Row]]) -> None:
    data = RetrainingData(rows("new", 50, "Photo: {}"), rows("known", 20, "Photo: {}"), rows("base", 900))
    assert set(counted(asked(data))) == {"known", "new"}
    assert set(counted(asked(replace(data, new=rows("new", 50))))) == {"base", "known", "new"}


def test_half_of_the_way_is_taken_where_captions_in_the_same_style_come_without_replay(tiny: Captioner) -> None:
    for in_style, replayed, share in ((True, 9, 0.75), (True, 0, 0.5), (False, 9, 0.75), (False, 0, 0.75)):
        assert incremental._usual_share(tiny, in_style, rows("base", replayed)) == share


@pytest.mark.slow
def test_a_style_is_known_by_how_captions_begin(
    tiny_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    folder = train(coloured_rows, tmp_path / "out", replace(tiny_config, epochs=10), cache_dir=tmp_path)
    champion = checkpoint.load(folder)
    for caption, in_style in (("A thing.", True), ("This here.", True), ("Photo: a thing", False), ("Picture.", False)):
        rewritten = [replace(row, references=(caption,)) for row in coloured_rows]
        assert incremental._in_style(champion, rewritten, tmp_path) == in_style, caption


def test_the_sample_is_the_seeds(asked: Callable[..., list[Row]]) -> None:
    new = rows("known", 200)
    data = RetrainingData(new, rows("known", 3000), [*rows("base", 3000), *rows("known", 200)])
    first = asked(data, seed="a")
    assert [row.sha256 for row in first].count("known-0") == EPOCHS, "what is new is not replayed"
    assert asked(replace(data, base=data.base[::-1]), seed="a") == first
    assert asked(data, seed="b") != first


def test_nothing_new_is_an_error(tiny: Captioner, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing new to learn"):
        retrain(tiny, RetrainingData([], rows("known", 9)), tmp_path / "out", cache_dir=tmp_path)


@pytest.mark.slow
def test_the_new_is_learnt_and_the_old_kept(
    tiny_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    old = [row for row in coloured_rows if "red" not in row.references[0]]
    new = [replace(row, references=("A crimson rectangle.",)) for row in coloured_rows if row not in old]
    champion = train(old, tmp_path / "champion", replace(tiny_config, epochs=40), cache_dir=cache)
    config = replace(tiny_config, seed=2)
    before = checkpoint.load(champion)
    captioner = retrain(before, RetrainingData(new, [], old), tmp_path / "out", cache_dir=cache, config=config)
    assert captioner.vocabulary.words == checkpoint.load(tmp_path / "out").vocabulary.words
    assert "crimson" in captioner.vocabulary.words
    assert captioner.vocabulary.words[: len(before.vocabulary)] == before.vocabulary.words
    said = [tokenize(item.text) for item in hypotheses(captioner, coloured_rows, None, cache)]
    right = {row.sha256: tokenize(row.references[0])[1] for row in (*old, *new)}
    share = sum(right[row.sha256] in tokens for row, tokens in zip(coloured_rows, said, strict=True)) / len(said)
    assert share > 0.9
