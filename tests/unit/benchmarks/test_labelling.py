from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import labelling
from benchmarks.adaptation_scenarios import WINTER, Base, mentions
from benchmarks.labelling import Curve, Plan, accepts, nearly_accepts
from benchmarks.labelling_calibration import calibrated
from benchmarks.labelling_pool import Pool, pool
from training.data.manifest import DEV, TRAIN, Row
from training.decoding.beam_search import Hypothesis
from training.decoding.reuse import FeatureSpace
from training.decoding.signals import Signals

CHANNELS = 64


def row(number: int, text: str, split: str = TRAIN, folder: Path = Path()) -> Row:
    return Row(folder / f"{number}.jpg", f"{number:064x}", (text, f"{text} today"), split)


def test_the_champion_retrains_after_25_labels_then_less_and_less_often_and_at_the_end() -> None:
    assert Plan.as_in_production().retrains == (25, 50, 75, 125, 200, 300, 400)


def test_a_pool_has_a_fifth_of_the_subject_a_tenth_of_copies_and_scores_images_that_nobody_labels(
    tmp_path: Path,
) -> None:
    rows = [row(number, "a dog on grass", DEV if number % 3 == 0 else TRAIN, tmp_path) for number in range(200)]
    rows += [row(number, "a man in the snow", TRAIN, tmp_path) for number in range(200, 240)]
    for each in rows:
        Image.new("RGB", (32, 32), (int(each.image.stem), 90, 90)).save(each.image)
    found = pool(rows, "winter", tmp_path / "copies", 50, 20, left_out=60)
    assert len(found.rows) == 50
    assert sum(mentions(each.references, WINTER) for each in found.rows) == 10
    copies = [each for each in found.rows if each.image.parent == tmp_path / "copies"]
    assert len(copies) == 5
    assert all(each.image.exists() for each in copies)
    assert len(found.scored) == 20
    assert sum(mentions(each.references, WINTER) for each in found.scored) == 4
    labelled, scored, learned = ({each.sha256 for each in part} for part in (found.rows, found.scored, found.base.rows))
    assert not labelled & scored
    assert not learned & (labelled | scored)
    assert found.rows == pool(rows, "winter", tmp_path / "copies", 50, 20, left_out=60).rows


def test_what_an_annotator_accepts() -> None:
    references = ["a dog runs on the grass", "two dogs"]
    assert accepts("A dog runs on grass.", references)
    assert not accepts("a dog sits on grass", references)
    assert nearly_accepts("a dog sits on grass", references)
    assert not nearly_accepts("two men", references)


class Fake:
    """A captioner whose drafts improve with its number of retrains."""

    feature_space = FeatureSpace("an encoder", np.zeros(CHANNELS, np.float32), np.ones(CHANNELS, np.float32))

    def __init__(self, retrains: int = 0) -> None:
        self.retrains = retrains


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each retrain was given."""
    given: list[Any] = []

    def retrain(champion: Fake, data: Any, out: Path, **options: Any) -> Fake:
        given.append(data)
        (out / str(champion.retrains + 1)).mkdir(parents=True)
        return Fake(champion.retrains + 1)

    def drafted(self: Any, rows: Any) -> list[Hypothesis]:
        known = self._champion.retrains
        chance = [np.random.default_rng(int(each.sha256[:8] + each.sha256[-4:], 16) % 1000) for each in rows]
        return [
            Hypothesis(
                " ".join(each.references[0].split()[: 1 + known]),
                0.5,
                (5,),
                feature=one.normal(size=CHANNELS).astype(np.float16).tobytes(),
                signals=Signals(one.random(), one.random(), 0.5, 2.0, float("nan"), 1.0),
            )
            for each, one in zip(rows, chance, strict=True)
        ]

    monkeypatch.setattr(labelling, "retrain", retrain)
    monkeypatch.setattr(Curve, "_drafted", drafted)
    monkeypatch.setattr(
        labelling.checkpoint, "load", lambda path: Fake(int(next(path.iterdir()).name) if path.exists() else 0)
    )
    return given


POOL = Pool(
    WINTER,
    Base("winter", [row(number, "a dog on grass") for number in range(900, 905)], []),
    [row(number, "a man in the deep snow") for number in range(60)],
    [row(number, "a child in the deep snow") for number in range(100, 110)],
)


def curve(out: Path, strategy: str = "combined", most: int = 24) -> Curve:
    return Curve(POOL, out / "base", strategy, 1, Plan(6, most, (6, 12, 24)), out / f"winter-{strategy}-1", out)


def test_a_curve_labels_retrains_on_what_is_new_and_is_scored(tmp_path: Path, fakes: list[Any]) -> None:
    curve(tmp_path).run()
    kept = labelling.json.loads((tmp_path / "winter-combined-1.json").read_text())
    assert [point["labels"] for point in kept["points"]] == [0, 6, 12, 24]
    edits = [point["mean_edits"] for point in kept["points"]]
    assert edits == sorted(edits, reverse=True)
    assert len({each["image"] for each in kept["labels"]}) == 24
    assert 0 < sum(each["control"] for each in kept["labels"]) < 8
    learned = [(len(data.new), len(data.known)) for data in fakes]
    assert learned[1][1] == learned[0][0]
    assert learned[2][1] == sum(learned[1])
    assert not (tmp_path / "winter-combined-1").exists(), "checkpoints of a finished curve"


def test_an_ended_curve_goes_on_where_it_was(tmp_path: Path, fakes: list[Any]) -> None:
    curve(tmp_path).run()
    whole = (tmp_path / "winter-combined-1.json").read_text()
    again = tmp_path / "again"
    again.mkdir()
    first = curve(again)
    first._plan = Plan(6, 12, (6, 12))
    remove, labelling.shutil.rmtree = labelling.shutil.rmtree, lambda *args, **options: None
    try:
        first.run()
    finally:
        labelling.shutil.rmtree = remove
    retrains = len(fakes)
    curve(again).run()
    assert len(fakes) == retrains + 1
    without_times = [labelling.json.loads(text) for text in (whole, (again / "winter-combined-1.json").read_text())]
    for each in without_times:
        for point in each["points"]:
            del point["seconds"]
    assert without_times[0] == without_times[1]


def test_random_takes_what_comes(tmp_path: Path, fakes: list[Any]) -> None:
    curve(tmp_path, "random").run()
    kept = labelling.json.loads((tmp_path / "winter-random-1.json").read_text())
    assert len({each["image"] for each in kept["labels"]}) == 24
    assert not any(each["control"] for each in kept["labels"])


def test_calibration_is_learned_from_earlier_labels_and_measured_on_later_drafts() -> None:
    chance = np.random.default_rng(1)

    def draft(text: str = "") -> dict[str, Any]:
        right = chance.random() < 0.5
        signal = (1.0 if right else -1.0) + chance.normal()
        return {"draft": "a dog runs" if right else "no such thing at all", "signals": [signal, None]}

    labels = [{**draft(), "references": ["a dog runs"]} for _ in range(200)]
    points = [{"labels": labels_, "drafts": [draft() for _ in range(300)]} for labels_ in (0, 100, 200)]
    table, measured = calibrated([{"labels": labels, "points": points, "scored": [["a dog runs"]] * 300}])
    assert measured
    assert sum(each.number for each in measured.bins) == 600
    assert table["calibration_counts_near"] == 0
    assert table["calibration_auroc"] > 0.85
    assert table["calibration_ece"] < 0.08
    assert table["calibration_brier_gain"] > 0.3
    points[1:] = []
    assert "calibration_ece" not in calibrated([{"labels": [], "points": points, "scored": [["a cat"]] * 300}])[0]
