"""How often the gate is wrong: candidates whose true difference is known, judged by the gate's own rule.

    python -m benchmarks.gate --hypotheses FILE.json [--draws 2000] [--changed 1.0 --changed 0.5]
    python -m benchmarks.gate --data flickr8k --checkpoints A --checkpoints B --cache DIR [--hypotheses FILE.json]
    python -m benchmarks.gate --quick

The file holds captions of the same images by several captioners and by people:
`{"references": [["…"]], "hypotheses": {"name": ["…"]}}`. With `--data` two checkpoints make it: their
captions of the development images, and captions sampled at random, which are worse. `--quick` makes one of generated
scenes.

A population is an endless supply of such images. Its champion is one of the captioners. A candidate has the champion's
captions but for a share `changed` of the images; there it has, at random, the caption of the best or of the worst
captioner in the file. The probability is set so that BLEU-4 over the whole population differs by exactly as much as
wanted.
The images of an evaluation set are drawn with replacement, so that it has the noise of real captions, pair by pair.

Figures are named after policy, true difference, pairs and percent changed: `power_margin_plus1_200_changed50`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.report import report
from training.data import manifest
from training.errors import DataError, TrainingError
from training.gate import bootstrap
from training.gate.bootstrap import Difference
from training.gate.rule import IMPROVEMENT, MARGIN, PROMOTE, Comparison, Policy, decide, significance_level
from training.metrics.bleu_statistics import bleu_statistics, corpus_bleu_4
from training.runtime.console import tracked

POLICIES: tuple[Policy, ...] = (MARGIN, IMPROVEMENT)
POINTS = 1.0
"""The margin of the default policy."""
SIZES, EFFECTS, INTERIM_LOOKS = (200, 500, 2000), (1.0, 2.0, 3.0), 10
TEMPERATURES = (0.5, 1.0)
"""Captions sampled at these are worse than those of the beam search, by some points and by many."""
MEANINGS = {
    "false_promotion_rate": "largest share promoted though no better than the policy's line (target: 0.05)",
    "false_promotion_rate_10_interim_looks": "largest share of sets where one of ten such was promoted (target: 0.05)",
    "bootstrap_5000_pairs_s": "s of CPU, 1,000 resamples of 5,000 pairs and what follows from them (target: 2)",
    "statistics_5000_pairs_s": "s of CPU, counting n-grams of both models' captions of 5,000 pairs before that",
    "seconds": "s, everything",
}

PATH = click.Path(path_type=Path)
Texts = dict[str, Any]


@click.command()
@click.option("--hypotheses", "file", type=PATH, help="Read captions here; with --data, write them here.")
@click.option("--data", type=PATH, help="Flickr8k, original files.")
@click.option("--checkpoints", type=PATH, multiple=True, help="Captioners to caption its development images.")
@click.option("--cache", type=PATH, help="Folder for features.")
@click.option("--device", default="auto", show_default=True)
@click.option("--draws", default=2000, show_default=True, type=click.IntRange(1), help="Evaluation sets of each kind.")
@click.option(
    "--changed", default=(1.0, 0.5), show_default=True, multiple=True, type=click.FloatRange(0, 1, min_open=True)
)
@click.option("--seed", default=1, show_default=True)
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(
    file: Path | None,
    data: Path | None,
    checkpoints: tuple[Path, ...],
    cache: Path | None,
    device: str,
    draws: int,
    changed: tuple[float, ...],
    seed: int,
    quick: bool,
) -> None:
    begun = time.perf_counter()
    try:
        if data is not None:
            if not checkpoints or cache is None:
                raise click.UsageError("With --data say also --checkpoints and --cache.")
            texts = caption(data, checkpoints, cache, device)
            if file is not None:
                file.write_text(json.dumps(texts), encoding="utf-8")
        elif file is not None:
            texts = load(file)
        elif quick:
            texts = scenes(300)
        else:
            raise click.UsageError("Say --hypotheses, --data or --quick.")
        sizes, draws = ((100, 200), min(draws, 10)) if quick else (SIZES, draws)
        figures = speed(texts)
        figures |= measure(captioners(texts), sizes, draws, changed, seed)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    report("gate", figures | {"seconds": time.perf_counter() - begun}, MEANINGS)


@dataclass(frozen=True)
class Population:
    """BLEU statistics of three captioners' sentences, and how a candidate is made of them.

    A candidate differs from the champion on a share `changed` of the images; of these a share `chance` has the best
    captioner's caption, the others the worst's.
    """

    champion: np.ndarray
    best: np.ndarray
    worst: np.ndarray
    changed: float = 1.0
    chance: float = 0.5

    def difference(self) -> float:
        """The true difference in BLEU-4 points: of the expected statistics, which endless draws would have."""
        champion, best, worst = (each.mean(axis=0, dtype=np.float64) for each in (self.champion, self.best, self.worst))
        other = self.chance * best + (1 - self.chance) * worst
        candidate = self.changed * other + (1 - self.changed) * champion
        return float(corpus_bleu_4(candidate) - corpus_bleu_4(champion))

    def with_difference(self, points: float) -> Population:
        """The same captioners, mixed so that the true difference is `points`. Raises TrainingError if none is."""
        low, high = 0.0, 1.0
        ends = [replace(self, chance=chance).difference() for chance in (low, high)]
        if not ends[0] <= points <= ends[1]:
            raise TrainingError(
                f"With {self.changed:g} of the captions changed candidates differ by {ends[0]:+.1f} to {ends[1]:+.1f} "
                f"BLEU-4, not {points:+.1f}; give captioners that are further apart."
            )
        for _ in range(60):  # halves, down to the last bit
            middle = (low + high) / 2
            if replace(self, chance=middle).difference() < points:
                low = middle
            else:
                high = middle
        return replace(self, chance=high)

    def candidate(self, images: np.ndarray, chance: np.random.Generator) -> np.ndarray:
        """A candidate's sentence statistics on the images of these numbers."""
        fate = chance.random(len(images))[:, None]
        other = np.where(fate < self.changed * self.chance, self.best[images], self.worst[images])
        return np.where(fate < self.changed, other, self.champion[images])


def captioners(texts: Texts) -> Population:
    """The best and the worst captioner, and as champion the best that the best one surpasses by enough."""
    counted = [bleu_statistics(captions, texts["references"]) for captions in texts["hypotheses"].values()]
    scores = [float(corpus_bleu_4(each.sum(axis=0, dtype=np.float64))) for each in counted]
    order = sorted(range(len(counted)), key=scores.__getitem__)
    low, high = scores[order[0]] + POINTS, scores[order[-1]] - max(EFFECTS)
    fitting = [number for number in order if low < scores[number] < high]
    if not fitting:
        listed = ", ".join(f"{score:.1f}" for score in sorted(scores))
        raise TrainingError(
            f"The captioners have BLEU-4 {listed}: one must be above the worst by more than {POINTS:g} and below the "
            f"best by more than {max(EFFECTS):g}, to be the champion."
        )
    return Population(counted[fitting[-1]], counted[order[-1]], counted[order[0]])


def measure(
    three: Population, sizes: Sequence[int], draws: int, changed: Sequence[float], seed: int
) -> dict[str, float]:
    """The share promoted of each kind of candidate; first the largest of those that should not have been."""
    false: dict[str, float] = {}
    power: dict[str, float] = {}
    for size in sizes:
        counts = bootstrap.resamples(size)  # the gate's own: its seed is fixed
        for share in changed:
            population, at = replace(three, changed=share), f"{size}_changed{100 * share:.0f}"
            chance = np.random.default_rng([seed, size, round(1000 * share)])
            for policy in POLICIES:
                line = -POINTS if policy == MARGIN else 0.0
                worthless = population.with_difference(line)
                titled = f"{policy}, {at}"
                promoted = promotions(worthless, counts, draws, INTERIM_LOOKS, chance, (policy,), titled)[policy]
                first, any_look = float(promoted[:, 0].mean()), float(promoted.any(axis=1).mean())
                false |= {f"false_{policy}_{at}": first, f"false_10_interim_looks_{policy}_{at}": any_look}
                print(f"{titled}: first look {first:.4f}, any look {any_look:.4f}", flush=True)
            for effect in EFFECTS:
                if effect > replace(population, chance=1.0).difference():
                    continue  # this few changes cannot make it that much better
                better = population.with_difference(effect)
                both = promotions(better, counts, draws, 1, chance, POLICIES, f"+{effect:g}, {at}")
                for policy in POLICIES:
                    power[f"power_{policy}_plus{effect:g}_{at}"] = float(both[policy].mean())
    largest = {
        "false_promotion_rate": max(value for key, value in false.items() if "interim_looks" not in key),
        "false_promotion_rate_10_interim_looks": max(value for key, value in false.items() if "interim_looks" in key),
    }
    return largest | false | power


def promotions(
    population: Population,
    counts: np.ndarray,
    draws: int,
    interim_looks: int,
    chance: np.random.Generator,
    policies: Sequence[Policy],
    title: str,
) -> dict[Policy, np.ndarray]:
    """By policy, who was promoted (draws, interim_looks): a draw is an evaluation set, a look a new candidate."""
    size: int = counts.shape[1]

    def passes(difference: Difference, policy: Policy) -> bool:
        comparisons = [Comparison("the set drawn", size, difference)]
        return decide(comparisons, difference.value, policy=policy, margin=POINTS).outcome == PROMOTE

    promoted = {policy: np.zeros((draws, interim_looks), dtype=bool) for policy in policies}
    for draw in tracked(range(draws), title):
        images = chance.integers(len(population.champion), size=size)
        champion = population.champion[images]
        for look in range(interim_looks):
            candidate, level = population.candidate(images, chance), significance_level(look)
            value = bootstrap.corpus_difference(champion, candidate)
            # A candidate that would fail without any error fails with bounds, too: most need not be resampled.
            if any(passes(Difference(value, value, value, 0.0, level), policy) for policy in policies):
                measured = bootstrap.compare(champion, candidate, counts, level)
                for policy in policies:
                    promoted[policy][draw, look] = passes(measured, policy)
    return promoted


def speed(texts: Texts, pairs: int = 5000) -> dict[str, float]:
    """Seconds of CPU the gate takes for so many pairs."""
    names = list(texts["hypotheses"])[:2]
    rows = [number % len(texts["references"]) for number in range(pairs)]
    references = [texts["references"][row] for row in rows]
    begun = time.process_time()
    both = [bleu_statistics([texts["hypotheses"][name][row] for row in rows], references) for name in names]
    counted = time.process_time()
    bootstrap.compare(both[0], both[1], bootstrap.resamples(pairs), significance_level(0))
    return {
        f"bootstrap_{pairs}_pairs_s": time.process_time() - counted,
        f"statistics_{pairs}_pairs_s": counted - begun,
    }


def load(file: Path) -> Texts:
    """The captions and references of a file. Raises DataError when they do not belong together."""
    try:
        texts = json.loads(file.read_text(encoding="utf-8"))
        counts = {len(captions) for captions in (texts["references"], *texts["hypotheses"].values())}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} holds no captions and references: {error}.") from error
    if len(counts) != 1 or len(texts["hypotheses"]) < 3:
        raise DataError(f"{file} must hold the captions of three captioners at least, all of the same images.")
    return {"references": texts["references"], "hypotheses": texts["hypotheses"]}


def caption(data: Path, checkpoints: Sequence[Path], cache: Path, device: str) -> Texts:
    """The captioners' captions of the development images, by beam search and by sampling."""
    from training.captioner import checkpoint
    from training.data import datasets
    from training.evaluation.evaluate import hypotheses

    rows = datasets.read("flickr8k", data, split=manifest.DEV)
    captions: dict[str, list[str]] = {}
    for folder in checkpoints:
        captioner = checkpoint.load(folder, device)
        sampled = [replace(captioner.decoding, top_p=1.0, temperature=each) for each in TEMPERATURES]
        for decoding in (captioner.decoding, *sampled):
            generated = hypotheses(captioner, rows, decoding, cache)
            captions[f"{len(captions)} {folder.name} {decoding.signature()}"] = [item.text for item in generated]
    return {"references": [list(row.references) for row in rows], "hypotheses": captions}


def scenes(count: int) -> Texts:
    """Captioners of generated scenes: one that is right, one that is every other time, one that never is."""
    from training.data.scenes import captions, generate

    seen = generate(count, seed=1, world="full")
    right = [captions(scene, seed=2)[0] for scene in seen]
    wrong = right[1:] + right[:1]
    half = [pair[number % 2] for number, pair in enumerate(zip(right, wrong, strict=True))]
    references = [captions(scene, seed=1) for scene in seen]
    return {"references": references, "hypotheses": {"right": right, "half": half, "wrong": wrong}}


if __name__ == "__main__":
    main()
