"""The loop on photographs, round by round: retrain the champion on new corrections, then gate the candidate.

    python -m benchmarks.rounds --data flickr8k --out DIR [--quick]

A base of Flickr8k training images with five captions each and development images of its own, learned by the starter's
recipe (its human captions), is followed by rounds of other images with one caption each. The data set's development
images are split by content: half are the held-out corrections of the gate, half report. After the third round comes a
poisoned one, its captions shuffled between its images. As in the backend, new captions go through the mismatch check;
the captions of a rejected round are left out of later rounds, those of a held one are learned again with the next. At
the end the champion is compared with a captioner trained anew on the base and all clean rounds, learned or not.

A second run with the same DIR takes the base, and the captioner trained anew, from there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.report import report
from benchmarks.starter import KNEE, RECIPES
from benchmarks.trained import seconds, trained
from training import metrics
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.continual.incremental import RetrainingData, retrain
from training.continual.mismatch import image_text_match, mismatch
from training.data import datasets, manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.evaluation.evaluate import evaluate, hypotheses
from training.gate import gate
from training.gate.gate import EvaluationSet, Verdict

POISONED_AFTER = 3
CHOOSING_SHARE = 0.1
MEANINGS = {
    "final_over_anew": "CIDEr-D of the last champion over that of one trained anew on all pairs (target: 0.95)",
    "final_cider_d": "of the last champion, on the reporting half",
    "anew_cider_d": "of the one trained anew",
    "base_cider_d": "of the first champion",
    "promoted": "clean rounds whose candidate was promoted",
    "poisoned_promoted": "1 if the poisoned round's candidate was promoted (target: 0)",
    "clean_after_poison_promoted": "1 if the next clean round's was",
    "retrain_seconds": "s, the longest retrain",
    "anew_seconds": "s, the epochs of training anew",
}
PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class Round:
    """What one round came to; scores are of the champion after it, on the reporting half."""

    name: str
    verdict: Verdict
    bleu4: float
    cider_d: float
    words: int
    seconds: float

    def line(self) -> str:
        changes = [change for change in self.verdict.forgetting if change.of == "base"]
        base = f"{changes[0].bleu_4:+.1f}" if changes else "-"
        return (
            f"{self.name}: BLEU-4 {self.bleu4:.1f}, CIDEr-D {self.cider_d:.1f}, BLEU-4 on the base {base}, "
            f"{self.words} new words, {self.seconds:.0f} s; {self.verdict.decision}: {self.verdict.reason}"
        )


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--out", type=PATH, required=True, help="Folder for checkpoints and features.")
@click.option("--base", default=1500, show_default=True, help="Images of the base.")
@click.option("--base-dev", default=1000, show_default=True, help="Images of the gate that stand for the base.")
@click.option("--size", default=500, show_default=True, help="Images of a round.")
@click.option("--rounds", default=5, show_default=True, help="Clean rounds.")
@click.option("--seed", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(
    data: Path,
    out: Path,
    base: int,
    base_dev: int,
    size: int,
    rounds: int,
    seed: int,
    quick: bool,
) -> None:
    changes: dict[str, Any] = {"epochs": 1} if quick else {}
    recipe, _ = RECIPES[KNEE]()
    recipe = replace(recipe, **changes)
    if quick:
        base, base_dev, size, rounds = 20, 8, 4, 4

    try:
        rows = datasets.read("flickr8k", data, limit=base + base_dev + (rounds + 1) * size)
        figures = run(rows, out, recipe, changes, base, base_dev, size, rounds, seed)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    report("rounds", figures, MEANINGS)


def run(
    rows: list[Row],
    out: Path,
    recipe: TrainingConfig,
    changes: dict[str, Any],
    base: int,
    base_dev: int,
    size: int,
    rounds: int,
    seed: int,
) -> dict[str, float]:
    """The figures; prints a line a round. `changes` are those of retrains."""
    chance, cache = np.random.default_rng(seed), out / "features"
    training = [row for row in rows if row.split == manifest.TRAIN]
    dev = sorted(
        (row for row in rows if row.split == manifest.DEV), key=lambda row: manifest.split_position(row.sha256)
    )
    judging, reporting = dev[: len(dev) // 2], dev[len(dev) // 2 :]
    known, base_judging = [_split(row) for row in training[:base]], training[base : base + base_dev]
    later = training[base + base_dev :]
    folder = trained(known, out / "base", recipe, cache)
    champion = checkpoint.load(folder)
    retraining = TrainingConfig.retraining(recipe.encoder, **changes)
    first = scores(champion, reporting, cache)
    print(f"base: BLEU-4 {first[0]:.1f}, CIDEr-D {first[1]:.1f}, {seconds(folder):.0f} s")

    learnt: list[Row] = []
    waiting: list[Row] = []  # of rounds that were held
    clean: list[Row] = []
    done: list[Round] = []
    names = [str(number) for number in range(1, rounds + 1)]
    names.insert(POISONED_AFTER, "poisoned")
    for number, name in enumerate(names):
        corrected = [
            _split(replace(row, references=(str(chance.choice(row.references)),)))
            for row in later[number * size : (number + 1) * size]
        ]
        if name == "poisoned":
            captions = [row.references for row in corrected]
            order = chance.permutation(len(corrected))
            corrected = [replace(row, references=captions[other]) for row, other in zip(corrected, order, strict=True)]
        else:
            clean += corrected
        new = [*waiting, *corrected]
        begun = time.monotonic()
        data = _retraining_data(new, learnt, known)
        options: dict[str, Any] = {"seed": f"{seed}-{name}", "cache_dir": cache, "config": retraining}
        candidate = retrain(champion, data, out / name, **options)
        took = time.monotonic() - begun
        verdict = _judged(champion, candidate, corrected, judging, base_judging, done, cache)
        words = len(candidate.vocabulary) - len(champion.vocabulary)
        if verdict.promotes:
            champion, learnt, waiting = candidate, [*learnt, *new], []
        else:
            waiting = new if verdict.decision == gate.HOLD else waiting
        done.append(Round(name, verdict, *scores(champion, reporting, cache), words, took))
        print(done[-1].line(), flush=True)

    folder = trained([*known, *clean], out / "anew", recipe, cache)
    anew = checkpoint.load(folder)
    final, fresh = scores(champion, reporting, cache)[1], scores(anew, reporting, cache)[1]
    print(f"anew: CIDEr-D {fresh:.1f}, {seconds(folder):.0f} s")
    return {
        "final_over_anew": final / max(fresh, 1e-9),
        "final_cider_d": final,
        "anew_cider_d": fresh,
        "base_cider_d": first[1],
        "anew_seconds": seconds(folder),
        **_promotions(done),
    }


def _promotions(done: Sequence[Round]) -> dict[str, float]:
    """What the gate made of clean rounds and of the poisoned one, and the longest retrain."""
    honest = [each for each in done if each.name != "poisoned"]
    return {
        "promoted": sum(each.verdict.promotes for each in honest),
        "poisoned_promoted": sum(each.verdict.promotes for each in done if each.name == "poisoned"),
        "clean_after_poison_promoted": float(honest[POISONED_AFTER].verdict.promotes),
        "retrain_seconds": max(each.seconds for each in done),
    }


def scores(captioner: Captioner, rows: list[Row], cache: Path) -> tuple[float, float]:
    """BLEU-4 and CIDEr-D."""
    captions = [item.text for item in hypotheses(captioner, rows, None, cache)]
    references = [row.references for row in rows]
    return metrics.bleu(captions, references).value, metrics.cider_d(captions, references).value


def _split(row: Row) -> Row:
    """Some images, fixed by content, choose epochs and interpolations."""
    chooses = manifest.split_position(row.sha256, "choosing:") < CHOOSING_SHARE
    return replace(row, split=manifest.DEV if chooses else manifest.TRAIN)


def _retraining_data(new: list[Row], learnt: list[Row], base: list[Row]) -> RetrainingData:
    def learned(rows: list[Row]) -> list[Row]:
        return [row for row in rows if row.split == manifest.TRAIN]

    choosing = [row for row in (*new, *learnt) if row.split == manifest.DEV]
    return RetrainingData(learned(new), learned(learnt), learned(base), choosing)


def _judged(
    champion: Captioner,
    candidate: Captioner,
    corrected: list[Row],
    judging: list[Row],
    base: list[Row],
    done: list[Round],
    cache: Path,
) -> Verdict:
    found = mismatch(*(image_text_match(champion, rows, cache) for rows in (corrected, judging)))
    evaluation_sets = []
    for role, rows in ((gate.CORRECTIONS, judging), (gate.BASE, base)):
        ours, theirs = (
            evaluate(captioner, rows, model=name, evaluation_set=role, decoding=candidate.decoding, cache_dir=cache)
            for captioner, name in ((candidate, "candidate"), (champion, "champion"))
        )
        interim_looks = sum(not each.verdict.provisional for each in done)
        evaluation_sets.append(EvaluationSet(role, ours, theirs, interim_looks))
    return gate.judge(evaluation_sets, mismatch=found)


if __name__ == "__main__":
    main()
