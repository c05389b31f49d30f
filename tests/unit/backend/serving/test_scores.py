"""The score of a draft as Label Studio gets it: the geometric mean of its words first, then a calibrated chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend import jobs
from backend.domain.corrections import Draft
from backend.serving.reuse import CERTAIN
from backend.serving.scores import NAMES
from backend.store.store import Store
from backend.web.app import create_app
from backend.web.services import Services, build
from tests import factories
from tests.factories import correction, draft, picture, saved, served
from tests.fakes import Answer, Host, Hypothesis, Model, host
from training.decoding.reuse import FeatureSpace
from training.decoding.signals import Signals
from training.selection.calibration import Calibration

CONFIG = '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'
GEOMETRIC_MEAN = 0.4
WIDE, NARROW = 2.0, -2.0  # margins of the tasks 1 and 2
BY_MARGIN = Calibration(
    (0.0,) * len(NAMES), (1.0,) * len(NAMES), tuple(float(name == "margin") for name in NAMES), bias=0.0
)


class Signalling(Model):
    """Its margin is wide for the first image it is asked for and narrow for the others; all images are far apart."""

    feature_space = FeatureSpace("an encoder", np.zeros(64), np.ones(64))

    def caption_pixels(self, images: Sequence[Any], **options: Any) -> list[Hypothesis]:
        found = super().caption_pixels(images)
        before = sum(len(batch) for batch in self.batches[:-1])
        return [
            Hypothesis(
                each.text,
                GEOMETRIC_MEAN,
                feature=np.random.default_rng(number).normal(size=64).astype(np.float16).tobytes(),
                signals=Signals(-0.9, NARROW if number else WIDE, math.nan, 2.0, 0.4, 2.1),
            )
            for number, each in enumerate(found, start=before)
        ]


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        running.answers |= {
            f"/data/upload/1/{number}.jpg": Answer(200, picture((number, 0, 0))) for number in range(1, 4)
        }
        running.answers["/data/upload/1/9.jpg"] = running.answers["/data/upload/1/2.jpg"]
        yield running


Start = Callable[..., Services]


@pytest.fixture
def start(tmp_path: Path, studio: Host) -> Start:
    """A process over the data folder."""

    def start(**environ: str) -> Services:
        environ = {"REDIS_URL": "redis://127.0.0.1:1/0", "LABEL_STUDIO_URL": studio.url, **environ}
        environ["LABEL_STUDIO_API_KEY"] = "a" * 40
        made = build(
            factories.settings(tmp_path, **environ), load=lambda checkpoint, device: Signalling(checkpoint.name)
        )
        served(made, "v1")
        return made

    return start


def predict(services: Services, *tasks: int) -> list[dict[str, Any]]:
    body = {
        "project": "1.1700000000",
        "label_config": CONFIG,
        "tasks": [{"id": number, "data": {"image": f"/data/upload/1/{number}.jpg"}} for number in tasks],
    }
    answer = create_app(services).test_client().post("/predict", json=body)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json["results"]  # type: ignore[index]
    return found


def learn(store: Store, learned: Calibration = BY_MARGIN) -> None:
    store.add_calibration(1, 1, corrections=60, accepted=30, calibration=learned.to_json(), reliability={})


def stored(services: Services, task: int) -> Draft:
    return services.store.get_drafts(1, [task], "v1")[-1]


def chance(margin: float) -> float:
    return 1 / (1 + math.exp(-margin))


def test_the_score_is_the_geometric_mean_of_the_words_until_chances_are_learned(start: Start) -> None:
    services = start()
    [first] = predict(services, 1)
    assert first["score"] == GEOMETRIC_MEAN
    assert stored(services, 1).signals == {
        "log_probability": -0.9,
        "margin": WIDE,
        "rarity": 2.0,
        "image_distance": 0.4,
        "length": 2.1,
    }, "those that are known"
    learn(services.store)
    again, other = predict(services, 1, 2)
    assert again["score"] == GEOMETRIC_MEAN, "a draft keeps the score it was served with"
    assert other["score"] == pytest.approx(chance(NARROW), abs=1e-3)


def test_the_newest_calibration_counts_and_a_damaged_one_does_not(start: Start) -> None:
    services = start()
    learn(services.store)
    assert predict(services, 1)[0]["score"] == pytest.approx(chance(WIDE), abs=1e-3)
    services.store.add_calibration(1, 2, corrections=80, accepted=1, calibration=None, reliability=None)
    assert predict(services, 2)[0]["score"] == pytest.approx(chance(NARROW), abs=1e-3), "nothing was learned then"
    services.store.add_calibration(1, 3, corrections=90, accepted=9, calibration={"bias": 1}, reliability=None)
    assert predict(services, 3)[0]["score"] == GEOMETRIC_MEAN


def test_the_similarity_to_the_nearest_correction_is_a_signal(start: Start) -> None:
    services = start()
    predict(services, 1)
    services.store.record(saved(correction(1, "a red dot")))
    predict(services, 1, 2)
    similarity = (stored(services, 2).signals or {})["correction_similarity"]
    assert -0.5 < similarity < 0.5


def test_drafts_below_the_threshold_are_withheld_once_their_chance_is_known(start: Start) -> None:
    services = start(CAPTIONER_WITHHOLD_BELOW="0.5")
    [shown] = predict(services, 3)
    assert shown["result"], f"{GEOMETRIC_MEAN} is no chance"
    learn(services.store, Calibration(BY_MARGIN.mean, BY_MARGIN.spread, (0.0,) * len(NAMES), bias=-1.0))
    [withheld] = predict(services, 2)
    assert (withheld["result"], withheld["score"]) == ([], pytest.approx(chance(-1.0)))
    assert stored(services, 2).text == ""
    assert (stored(services, 2).withheld or "").startswith("v1 on ")
    services.store.record(saved(correction(2, "a dark red dot")))
    [copied] = predict(services, 9)
    assert copied["result"][0]["value"]["text"] == ["a dark red dot"]
    assert copied["score"] == CERTAIN, "the same picture's correction is no draft by the model"
    assert stored(services, 9).signals is None
    assert predict(start(), 1)[0]["result"], "nothing is withheld by default"


def test_a_blind_task_has_a_score_and_no_text(start: Start) -> None:
    services = start(CAPTIONER_BLIND_SHARE="1")
    learn(services.store)
    [blind] = predict(services, 1)
    assert (blind["result"], blind["score"]) == ([], pytest.approx(chance(WIDE), abs=1e-3))
    services.store.record(saved(correction(1, "a red dot")))
    assert predict(services, 1)[0]["result"] == [], "it stays blind"


def test_a_worker_learns_from_corrections_what_the_web_process_then_serves(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, random = start(), np.random.default_rng(0)
    for name, value in services.settings.to_env().items():
        monkeypatch.setenv(name, value)
    margins = random.normal(size=300)
    kept = random.random(300) < 1 / (1 + np.exp(-3 * margins))
    drafts, corrections = [], []
    for number, (margin, is_kept) in enumerate(zip(margins, kept, strict=True), start=100):
        signals = {"log_probability": float(random.normal()), "margin": float(margin)}
        drafts.append(draft(number, text="a dog runs", signals=signals))
        corrections.append(correction(number, "A dog ran" if is_kept else "two cats sleep"))
    services.store.add_drafts(1, drafts)
    services.store.record(saved(*corrections))
    jobs.calibrate(1)
    found = services.store.newest_calibration(1)
    assert found
    assert found.reliability
    assert (found.corrections, found.accepted) == (300, kept.sum())
    assert found.reliability["auroc"] > 0.75
    assert found.reliability["brier"] < 0.85 * found.reliability["base_brier"]
    wide, narrow = (predict(services, number)[0]["score"] for number in (1, 2))
    assert narrow < 0.2 < 0.8 < wide < 1
    jobs.calibrate(1)
    assert services.store.newest_calibration(1) == found, "nothing is new"


def test_drafts_of_an_earlier_release_teach_nothing_and_harm_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = start()
    for name, value in services.settings.to_env().items():
        monkeypatch.setenv(name, value)
    services.store.add_drafts(1, [draft(number, text="a dog") for number in range(1, 100)])
    services.store.record(saved(*(correction(number, "a dog") for number in range(1, 100))))
    jobs.calibrate(1)
    assert services.store.count_answered(1) == 0
    assert services.store.newest_calibration(1, learned=False) is None
