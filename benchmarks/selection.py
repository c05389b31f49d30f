"""How long it takes to choose 1,000 of 100,000 waiting images, with each strategy.

    python -m benchmarks.selection [--quick]

Scores and pooled features are random numbers, of the starter's size and in half precision; 5,000 images are corrected.
"""

from __future__ import annotations

import resource
import time

import click
import numpy as np

from benchmarks.report import report
from training.decoding.reuse import FeatureSpace
from training.selection.strategies import SHORTLIST, STRATEGIES, Candidates, select

WAITING, KNOWN, CHOSEN, CHANNELS = 100_000, 5_000, 1_000, 1_400
MEANINGS = {
    "slowest_seconds": "s, the strategy that takes longest (target: 60)",
    "memory_megabytes": "MB of memory at most, the features included",
}


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(quick: bool) -> None:
    part = 100 if quick else 1
    found = {f"{name.replace('-', '_')}_seconds": took for name, took in seconds(part).items()}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    figures = {"slowest_seconds": max(found.values()), "memory_megabytes": memory}
    report("selection", figures | found, MEANINGS)


def seconds(part: int = 1) -> dict[str, float]:
    """Of each strategy, on one image in `part`."""
    chance = np.random.default_rng(1)
    waiting, known = (
        chance.standard_normal((number // part, CHANNELS), np.float32).astype(np.float16) for number in (WAITING, KNOWN)
    )
    space = FeatureSpace("random", np.zeros(CHANNELS, np.float32), np.full(CHANNELS, 3.0, np.float32))
    chances, margins, disagreements = chance.random((3, len(waiting)))
    disagreements[SHORTLIST:] = np.nan
    candidates = Candidates(chances, margins, waiting, disagreements)
    took = {}
    for name in STRATEGIES:
        begun = time.perf_counter()
        select(candidates, CHOSEN // part, name, seed=1, known=known, space=space)
        took[name] = time.perf_counter() - begun
    return took


if __name__ == "__main__":
    main()
