from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.active_learning import figures, main, read
from benchmarks.active_learning_plot import main as plot


def kept(strategy: str, seed: int, edits: tuple[float, ...]) -> dict[str, Any]:
    draft = {"draft": "a dog", "signals": [-1.0, None]}
    return {
        "strategy": strategy,
        "seed": seed,
        "scored": [["a dog runs"]] * 4,
        "labels": [{**draft, "of_subject": False, "references": ["a dog runs"]}] * 40,
        "points": [
            {"labels": 20 * number, "edits": [mean] * 4, "mean_edits": mean, "drafts": [draft] * 4}
            for number, mean in enumerate(edits)
        ],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    curves = {
        "winter-random-1": kept("random", 1, (8.0, 7.0, 6.0)),
        "winter-random-2": kept("random", 2, (8.0, 7.0, 6.0)),
        "winter-least-confident-1": kept("least-confident", 1, (8.0, 7.5, 7.0)),
        "winter-combined-1": kept("combined", 1, (8.0, 6.0, 5.0)),
        "water-random-1": kept("random", 1, (8.0, 7.0, 6.0)),
        "water-combined-1": kept("combined", 1, (8.0, 7.0)),
        "water-margin-1": kept("margin", 1, (8.0,)),
    }
    (tmp_path / "curves").mkdir()
    for name, curve in curves.items():
        (tmp_path / "curves" / f"{name}.json").write_text(json.dumps(curve))
    return tmp_path


def test_the_figures_of_finished_curves(folder: Path) -> None:
    found = figures(read(folder))
    assert found["labels_share"] == found["combined_labels_share"] == 0.5
    assert found["random_edits"] == found["random_edits_40"] == 6.0
    assert found["least_confident_labels_share"] == float("inf")
    assert found["base_rate"] == 1.0
    assert found["calibration_counts_near"] == 0.0
    assert found["combined_last_difference_low"] == -1.0
    assert "water_labels_share" not in found, "the curve still runs"
    assert found["water_combined_edits_20"] == 7.0
    assert "water_margin_area" not in found, "nothing has been learned yet"


def test_images_of_the_subject_are_also_compared_alone(folder: Path) -> None:
    for path in (folder / "curves").glob("winter-*.json"):
        curve = json.loads(path.read_text())
        curve["scored"][0] = ["a dog runs in the snow"]
        for point, edits in zip(curve["points"], (8, 6, 2) if "random" in path.name else (8, 2, 1), strict=True):
            point["edits"][0] = edits
        path.write_text(json.dumps(curve))
    found = figures(read(folder))
    assert found["subject_labels_share"] == 0.5
    assert found["subject_base_edits"] == 8.0
    assert found["random_subject_edits"] == 2.0
    assert found["combined_subject_edits"] == 1.0
    assert not [name for name in found if name.startswith("water") and "subject" in name], "no image there shows water"


@pytest.mark.slow
def test_the_plot_of_curves(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    done = CliRunner().invoke(plot, [str(folder), str(folder / "plot.svg")])
    assert done.exit_code == 0, done.output
    assert "k-center" not in (text := (folder / "plot.svg").read_text())
    assert text.startswith("<?xml")


def test_a_strategy_that_is_not_there_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--data", str(tmp_path), "--out", str(tmp_path), "--strategies", "best"])
    assert done.exit_code == 2
    assert "There are no strategies best; there are random, least-confident" in done.output
