"""What is chosen, from what SQL knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.cli import selection as command
from backend.drafts.job import EndedError, Job
from backend.drafts.selection.candidates import SAMPLING, chooser
from backend.drafts.selection.making import CannotChooseError
from backend.drafts.selection.sampling import SAMPLED
from backend.serving.champions import Champions
from backend.serving.scores import NAMES
from backend.store.drafts.selections import WANTED, Order
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import correction, draft, picture, saved, settings
from tests.fakes import Answer, Host, Hypothesis, Model, host
from training.config import DecodingConfig
from training.decoding.reuse import FeatureSpace
from training.selection import strategies
from training.selection.calibration import Calibration

BY_MARGIN = Calibration(
    (0.0,) * len(NAMES), (1.0,) * len(NAMES), tuple(float(name == "margin") for name in NAMES), bias=0.0
)
SPACE = FeatureSpace("e", np.zeros(64, np.float32), np.ones(64, np.float32))


def feature(number: int) -> bytes:
    """Of a picture that is like no picture of another number."""
    return bytes(np.random.default_rng(number).standard_normal(64).astype(np.float16).tobytes())


class Captioner(Model):
    """Its sampled captions of an image disagree as the image's colour says: of the first one most."""

    feature_space = SPACE
    decoding = DecodingConfig(neighbours=5)

    def caption_n_best(self, images: Sequence[Path], number: int, decoding: Any = None) -> Iterator[Any]:
        assert (number, decoding.seed, decoding.top_p > 0) == (SAMPLED, 7, True)
        self.batches.append([image.name for image in images])
        for image in images:
            differing = COLOURS.index(image.read_bytes())
            yield [Hypothesis(f"word{each if each >= differing else 0}", 0.5) for each in range(number)], None


COLOURS = [picture(colour) for colour in ("red", "green", "blue", "black")]


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        for number, content in enumerate(COLOURS, start=1):
            running.answers[f"/data/upload/1/{number}.jpg"] = Answer(body=content)
        yield running


class Chosen:
    """What is chosen of four tasks, drafted by v1 the less surely the greater their number."""

    def __init__(self, folder: Path, studio: Host) -> None:
        self.settings = settings(folder, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY="0" * 40)
        self.store = Store(self.settings.database_url)
        self.store.migrate()
        self.model = Captioner("v1")
        self.version = ModelVersion("v1", folder / "v1")
        Registry(self.store).register(self.version)
        Registry(self.store).promote(1, "v1", reason="for a test", by="test")
        drafts = [draft(n, score=1 - n / 10, image_sha256=f"image {n}") for n in (1, 2, 3, 4)]
        self.store.add_drafts(1, drafts)
        self.store.add_features(1, "e", {f"image {n}": feature(n) for n in (1, 2, 3, 4)})

    def __call__(self, strategy: str, count: int = 4, seconds: float = 60) -> list[int]:
        ordered = [each for each in self.store.selections(1, WANTED) if each.strategy == strategy]
        ordered = ordered or [self.store.order_selection(1, Order(strategy, count, 7))]
        job = Job(type("Client", (), {"requests": 0})(), self.store, Registry(self.store), 1, self.version, seconds)
        assert job.claim()
        try:
            choose = chooser(self.settings, self.store, Champions("cpu", lambda checkpoint, device: self.model))
            return [each.task_id for each in choose(job, ordered[-1]) if not each.is_control]
        finally:
            job.give_back()


@pytest.fixture
def chosen(tmp_path: Path, studio: Host, monkeypatch: pytest.MonkeyPatch) -> Chosen:
    monkeypatch.setattr(strategies.select, "__kwdefaults__", {**strategies.select.__kwdefaults__, "control_share": 0.0})
    return Chosen(tmp_path, studio)


def test_the_least_sure_drafts_come_first_and_near_duplicates_of_corrections_wait(chosen: Chosen) -> None:
    assert chosen("least-confident") == [4, 3, 2, 1]
    chosen.store.add_features(1, "e", {"a copy of 3": feature(3), "a copy of 2": feature(2)})
    chosen.store.add_drafts(1, [draft(5, score=0.01, image_sha256="a copy of 3")])
    assert chosen("least-confident") == [5, 4, 2, 1], "one of two is enough"
    chosen.store.add_drafts(1, [draft(6, image_sha256="a copy of 2")])
    chosen.store.record(saved(correction(6)))
    chosen.store.record(saved(correction(4, "", was_cancelled=True)))
    assert chosen("least-confident") == [5, 1]


def test_the_draft_that_is_shown_counts(chosen: Chosen) -> None:
    chosen.store.show_instead(1, [draft(1, text="other", score=0.0, image_sha256="image 1", from_task=9)])
    chosen.store.add_drafts(1, [draft(2, "v2", score=0.0, image_sha256="image 2")])
    assert chosen("least-confident") == [1, 4, 3, 2]


def test_scores_count_by_what_has_been_learned_since_the_drafts_were_made(chosen: Chosen) -> None:
    chosen.store.add_drafts(1, [draft(5, score=0.9, image_sha256="5", signals={"margin": -1.0})])
    chosen.store.add_drafts(1, [draft(6, score=0.9, image_sha256="6", signals={"margin": -3.0})])
    assert chosen("margin", 6)[:2] == [6, 5]
    assert chosen("least-confident", 6)[:3] == [4, 3, 2]
    chosen.store.add_calibration(1, 1, corrections=60, accepted=9, calibration=BY_MARGIN.to_json(), reliability={})
    assert chosen("least-confident", 6)[:2] == [6, 5], "what has no signals tells nothing, and comes last"
    chosen.store.show_instead(1, [draft(6, text="copied", score=1.0, image_sha256="6", from_task=9)])
    assert chosen("least-confident", 6)[:2] == [5, 6], "a copied correction is certain"


def test_without_features_to_compare_nothing_waits(chosen: Chosen) -> None:
    chosen.model.feature_space = None
    chosen.store.add_drafts(1, [draft(5, score=0.01, image_sha256="image 1")])
    assert chosen("least-confident", 5) == [5, 4, 3, 2, 1]


def test_captions_are_sampled_part_by_part_and_none_twice(chosen: Chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.drafts.selection.sampling.BATCH", 3)
    chosen.store.add_drafts(1, [draft(5, score=0.0, image_sha256="lost"), draft(6, score=0.0, image_sha256="lost")])
    with pytest.raises(EndedError):
        chosen("disagreement", 5, seconds=0)
    [selection] = chosen.store.selections(1)
    assert sorted(value is None for value in chosen.store.shortlist(selection).values()) == [False] * 3 + [True] * 3
    found = chosen("disagreement", 5)
    assert found[:4] == [1, 2, 3, 4], "those whose sampled captions disagree most"
    assert sum(map(len, chosen.model.batches)) == 4, "no image twice, and none of those that are lost"


def test_a_strategy_that_needs_what_nobody_knows_says_so(chosen: Chosen) -> None:
    with pytest.raises(CannotChooseError, match='The strategy "margin" needs'):
        chosen("margin")


def test_the_command_knows_the_strategies() -> None:
    assert (command.STRATEGIES, command.DEFAULT) == (strategies.STRATEGIES, strategies.DEFAULT)
    assert set(strategies.STRATEGIES) >= SAMPLING
    assert dataclasses.replace(DecodingConfig(), top_p=1.0).top_p == 1.0
