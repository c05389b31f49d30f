"""Learning on from a champion: what is rehearsed, in whose words, and that the new is learnt and the old kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training.captioner import checkpoint
from training.config import DecodingConfig, TrainingConfig
from training.continual import incremental
from training.continual.incremental import LEAST_REHEARSED, RetrainingData, retrain
from training.data import manifest
from training.data.manifest import Row
from training.decoding.beam_search import Hypothesis
from training.errors import TrainingError
from training.evaluation.evaluate import hypotheses
from training.learning.train import train
from training.vocabulary import tokenize


def rows(name: str, number: int) -> list[Row]:
    return [Row(Path(f"{name}{n}.png"), f"{name}-{n}", (f"a {name} thing",), manifest.DEV) for n in range(number)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Row]]:
    """The rows that `retrain` would train on; the champion says the same of every image but one."""

    class EnoughError(Exception):
        pass

    found: list[Row] = []

    def stand_in(several: list[Row], *_: Any, **__: Any) -> None:
        found[:] = several
        raise EnoughError

    def told(captioner: Any, several: list[Row], *_: Any, brief: bool) -> list[Hypothesis]:
        assert brief, "so that no more is encoded than a training has to"
        return [Hypothesis("" if n == 0 else "as ever", 0.5, ()) for n, _ in enumerate(several)]

    class Champion:
        decoding = DecodingConfig()

    monkeypatch.setattr(incremental, "train", stand_in)
    monkeypatch.setattr(incremental, "hypotheses", told)
    monkeypatch.setattr(checkpoint, "load", lambda *_: Champion)
    monkeypatch.setattr(checkpoint, "encoder_of", lambda _: None)

    def run(lessons: RetrainingData, **options: Any) -> list[Row]:
        with pytest.raises(EnoughError):
            retrain(tmp_path, lessons, tmp_path / "out", cache_dir=tmp_path, **options)
        return list(found)

    return run


def counted(several: list[Row]) -> dict[str, int]:
    names = [row.sha256.partition("-")[0] for row in several]
    return {name: names.count(name) for name in sorted(set(names))}


def test_the_cost_follows_what_is_new_however_much_is_known(asked: Callable[..., list[Row]]) -> None:
    small = asked(RetrainingData(rows("new", 500), rows("known", 400), rows("base", 3_000)))
    large = asked(RetrainingData(rows("new", 500), rows("known", 4_000), rows("base", 30_000)))
    assert counted(small) == {"base": 249, "known": 250, "new": 500}, "of one row the champion said nothing"
    assert counted(large) == counted(small)
    assert {row.split for row in large} == {manifest.TRAIN}
    assert len({row.sha256 for row in large}) == len(large)


def test_a_few_corrections_are_learnt_beside_a_least_rehearsal(asked: Callable[..., list[Row]]) -> None:
    found = counted(asked(RetrainingData(rows("new", 5), rows("known", 100), rows("base", 900))))
    assert found == {"base": LEAST_REHEARSED - 100 - 1, "known": 100, "new": 5}
    assert counted(asked(RetrainingData(rows("new", 5)))) == {"new": 5}
    assert counted(asked(RetrainingData(rows("new", 5), rows("known", 100)), replay=0.0)) == {"new": 5}
    data = RetrainingData(rows("new", 400), rows("known", 2000))
    assert counted(asked(data, replay=2.5)) == {"known": 1000, "new": 400}


def test_the_base_is_rehearsed_in_the_champions_words_and_corrections_in_the_annotators(
    asked: Callable[..., list[Row]],
) -> None:
    lessons = RetrainingData(rows("new", 5), rows("known", 5), rows("base", 5))
    told = {row.sha256.partition("-")[0]: row.references for row in asked(lessons)}
    assert told == {"new": ("a new thing",), "known": ("a known thing",), "base": ("as ever",)}
    told = {row.sha256.partition("-")[0]: row.references for row in asked(lessons, own_words=False)}
    assert told["base"] == ("a base thing",)


def test_no_image_comes_twice_and_the_sample_is_the_seeds(asked: Callable[..., list[Row]]) -> None:
    new = rows("known", 3)
    lessons = RetrainingData(new, rows("known", 3000), [*rows("base", 3000), *rows("known", 3)])
    first = asked(lessons, seed="a")
    assert len({row.sha256 for row in first}) == len(first)
    assert asked(replace(lessons, base=lessons.base[::-1]), seed="a") == first
    assert asked(lessons, seed="b") != first


def test_nothing_new_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing new to learn"):
        retrain(tmp_path, RetrainingData([], rows("known", 9)), tmp_path / "out", cache_dir=tmp_path)


@pytest.mark.slow
def test_the_new_is_learnt_and_the_old_kept(
    tiny_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    old = [row for row in coloured_rows if "red" not in row.references[0]]
    new = [replace(row, references=("A crimson rectangle.",)) for row in coloured_rows if row not in old]
    champion = train(old, tmp_path / "champion", replace(tiny_config, epochs=40), cache_dir=cache)
    config = replace(tiny_config, min_count=1, seed=2)
    out = retrain(champion, RetrainingData(new, [], old), tmp_path / "out", cache_dir=cache, config=config)
    captioner, before = checkpoint.load(out), checkpoint.load(champion)
    assert "crimson" in captioner.vocabulary.words
    assert captioner.vocabulary.words[: len(before.vocabulary)] == before.vocabulary.words
    said = [tokenize(item.text) for item in hypotheses(captioner, coloured_rows, None, cache)]
    right = {row.sha256: tokenize(row.references[0])[1] for row in (*old, *new)}
    share = sum(right[row.sha256] in tokens for row, tokens in zip(coloured_rows, said, strict=True)) / len(said)
    assert share > 0.9
