"""Labelling simulated on Flickr8k: how many labels each strategy needs, and what the scores of drafts are worth.

    python -m benchmarks.active_learning --data flickr8k --out DIR [--strategies random,combined] [--seeds 3] [--quick]

The photo starter's recipe on a base that lacks a subject; a pool in which a fifth of the images is of it and a tenth is
nearly the same as another; 25 corrections at a time up to 400 by a simulated annotator; a retrain whenever the backend
would begin one. Images of the pool that nobody may label score the drafts, the same for all strategies. A second run
with the same DIR goes on where the first was ended, and beside one that still runs it takes other curves: with
OMP_NUM_THREADS=1 two make the most of two cores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from filelock import FileLock, Timeout

from benchmarks import learning_curves
from benchmarks.adaptation import EPOCHS, base_recipe
from benchmarks.adaptation_scenarios import mentions
from benchmarks.labelling import Curve, Plan
from benchmarks.labelling_calibration import calibrated
from benchmarks.labelling_pool import LEFT_OUT, SUBJECTS, pool
from benchmarks.learning_curves import Curves
from benchmarks.report import report
from benchmarks.trained import trained
from training.data import datasets
from training.errors import TrainingError
from training.runtime.files import atomic_file
from training.selection.strategies import DEFAULT, STRATEGIES

SIZE, SCORED = 1000, 600
MAIN = "winter"
MEANINGS = {
    "labels_share": f"labels with which {DEFAULT} comes as far as random ones with all, over these (target: 0.75)",
    "random_edits": "words changed an image after the last random label",
    "base_edits": "words changed an image before the first label",
    "subject_labels_share": "the same by words changed on images of the subject alone",
    "subject_base_edits": "words changed on such an image before the first label",
    "random_subject_edits": "words changed on such an image after the last random label",
    f"{DEFAULT}_subject_edits": f"after the last label of {DEFAULT}",
    "base_rate": "drafts with at most one word to change",
    "near_base_rate": "drafts with at most a third of the words to change",
    "calibration_counts_near": "1 if calibration is measured on the latter, because the former are under 5 %",
    "calibration_ece": "expected calibration error of 15 bins, on later drafts (target: 0.05)",
    "calibration_brier_gain": "by how much the Brier score is below the base rate's (target: 0.05)",
    "calibration_auroc": "how often an accepted draft has the higher chance (target: 0.65)",
}
PATH = click.Path(path_type=Path)


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--out", type=PATH, required=True, help="Folder for curves, checkpoints and features.")
@click.option("--strategies", default=",".join(STRATEGIES), show_default=True)
@click.option("--seeds", default=3, show_default=True, help=f"Of random and {DEFAULT}; the others have one.")
@click.option("--subjects", default=",".join(SUBJECTS), show_default=True, help="All but winter are a check.")
@click.option("--encoder", default="tf_efficientnet_lite2", show_default=True)
@click.option("--weights", default="imagenet", show_default=True, help="Of the encoder.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(
    data: Path, out: Path, strategies: str, seeds: int, subjects: str, encoder: str, weights: str, quick: bool
) -> None:
    asked, about = _known(strategies, STRATEGIES, "strategies"), _known(subjects, tuple(SUBJECTS), "subjects")
    plan = Plan(4, 8, (8,)) if quick else Plan.as_in_production()
    size, scored, left_out, epochs = (30, 15, 30, 1) if quick else (SIZE, SCORED, LEFT_OUT, EPOCHS)
    if quick:
        asked = [name for name in asked if name in {"random", "disagreement", DEFAULT}]
    out.mkdir(parents=True, exist_ok=True)
    try:
        rows = datasets.read("flickr8k", data, limit=300 if quick else None)
        for subject in about[: 1 if quick else None]:
            found = pool(rows, subject, out / "copies", size, scored, left_out)
            with FileLock(out / f"base-{subject}.lock"):
                recipe = base_recipe(encoder, weights, epochs)
                base = trained(found.base.rows, out / f"base-{subject}", recipe, out / "features")
            for seed, strategy in _runs(asked, 1 if quick else seeds, is_check=subject != MAIN):
                name = out / "curves" / f"{subject}-{strategy}-{seed}"
                name.parent.mkdir(exist_ok=True)
                try:
                    with FileLock(f"{name}.lock", timeout=0):
                        Curve(found, base, strategy, seed, plan, name, out / "features").run()
                except Timeout:
                    print(f"{name.name} is being made by another run.", flush=True)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    curves = read(out)
    results = figures(curves)
    with atomic_file(out / "results.json") as unfinished:
        unfinished.write_text(json.dumps({"figures": results, "curves": _table(curves)}, indent=1), encoding="utf-8")
    report("active_learning", results, MEANINGS)


def _known(asked: str, names: Sequence[str], what: str) -> list[str]:
    """The names that are asked for, in the order of all."""
    if unknown := sorted(set(asked.split(",")) - set(names)):
        raise click.UsageError(f"There are no {what} {', '.join(unknown)}; there are {', '.join(names)}.")
    return [name for name in names if name in asked.split(",")]


def _runs(strategies: Sequence[str], seeds: int, is_check: bool) -> list[tuple[int, str]]:
    """Seeds and strategies, what matters most first."""
    several = [name for name in ("random", DEFAULT) if name in strategies]
    if is_check:
        return [(1, name) for name in several]
    others = [(1, name) for name in strategies if name not in several]
    return [(1, name) for name in several] + others + [(seed, name) for seed in range(2, seeds + 1) for name in several]


def read(out: Path) -> dict[str, dict[str, list[Any]]]:
    """The curves in a folder by subject and strategy, in the order of their seeds."""
    found: dict[str, dict[str, list[Any]]] = {}
    for path in sorted((out / "curves").glob("*.json")):
        subject, rest = path.stem.split("-", 1)
        found.setdefault(subject, {}).setdefault(rest.rpartition("-")[0], []).append(json.loads(path.read_text()))
    return found


def figures(found: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, float]:
    """Of all curves by name; those of a check have its name before theirs."""
    table: dict[str, float] = {}
    main = MAIN if MAIN in found else next(iter(found), MAIN)
    for subject in sorted(found, key=lambda name: name != main):
        prefix = "" if subject == main else f"{subject}_"
        curves = {name: Curves.of(several) for name, several in found[subject].items()}
        curves = {name: curve for name, curve in curves.items() if len(curve.labels) > 1}  # the others have just begun
        if random := curves.get("random"):
            if DEFAULT in curves and curves[DEFAULT].labels[-1] == random.labels[-1]:
                table[f"{prefix}labels_share"] = learning_curves.labels_share(curves[DEFAULT], random)
            table[f"{prefix}base_edits"] = float(random.means[0])
            table[f"{prefix}random_edits"] = float(random.means[-1])
        scored = next(iter(found[subject].values()))[0]["scored"]
        is_shown = np.array([mentions(references, SUBJECTS[subject]) for references in scored])
        parts = [_of_strategy(name, ours, random) for name, ours in curves.items()]
        for part in [*parts, _of_subject(curves, is_shown)]:
            table |= {f"{prefix}{key}": value for key, value in part.items()}
        if kept := found[subject].get(DEFAULT) or next(iter(found[subject].values()), None):
            table |= {f"{prefix}{key}": value for key, value in calibrated(kept)[0].items()}
    return table


def _table(found: Mapping[str, Mapping[str, list[Any]]]) -> list[dict[str, Any]]:
    """A row for each champion of each curve."""
    return [
        {"subject": subject, "strategy": kept["strategy"], "seed": kept["seed"]}
        | {name: value for name, value in point.items() if name not in {"edits", "drafts"}}
        | {"of_subject": sum(each["of_subject"] for each in kept["labels"][: point["labels"]])}
        for subject, strategies in found.items()
        for several in strategies.values()
        for kept in several
        for point in kept["points"]
    ]


def _of_subject(curves: Mapping[str, Curves], is_shown: np.ndarray) -> dict[str, float]:
    """Of the scored images (I,) that show the subject: what the base has never seen is learned there or nowhere."""
    shown = {name: several.only(is_shown) for name, several in curves.items()} if is_shown.any() else {}
    found = {f"{name.replace('-', '_')}_subject_edits": float(several.means[-1]) for name, several in shown.items()}
    if (random := shown.get("random")) and (ours := shown.get(DEFAULT)) and ours.labels[-1] == random.labels[-1]:
        low, high = learning_curves.interval(ours, random)["labels_share"]
        share = learning_curves.labels_share(ours, random)
        found |= {"subject_base_edits": float(random.means[0]), "subject_labels_share": share}
        found |= {"subject_labels_share_low": low, "subject_labels_share_high": high}
    return found


def _of_strategy(name: str, ours: Curves, random: Curves | None) -> dict[str, float]:
    key = name.replace("-", "_")
    found = {f"{key}_edits_{labels}": float(mean) for labels, mean in zip(ours.labels, ours.means, strict=True)}
    found[f"{key}_area"] = learning_curves.area(ours)
    if random is None or name == "random" or len(random.labels) != len(ours.labels):
        return found
    found[f"{key}_labels_share"] = learning_curves.labels_share(ours, random)
    for what, (low, high) in learning_curves.interval(ours, random).items():
        found |= {f"{key}_{what}_low": low, f"{key}_{what}_high": high}
    return found


if __name__ == "__main__":
    main()
