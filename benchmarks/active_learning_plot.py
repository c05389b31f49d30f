"""A plot of what `benchmarks.active_learning` found: learning curves, and how far scores can be trusted.

pip install '.[plots]'
python -m benchmarks.active_learning_plot DIR docs/active-learning.svg [--subject winter]
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from benchmarks.active_learning import MAIN, read
from benchmarks.labelling_calibration import calibrated
from benchmarks.learning_curves import Curves
from training.selection.strategies import DEFAULT, STRATEGIES

COLOURS = dict(zip(STRATEGIES, ("#7a7a7a", "#d98c21", "#3f9c6d", "#b04fa8", "#c94f4f", "#1f5fbf"), strict=True))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--subject", default=MAIN, show_default=True)
def main(folder: Path, out: Path, subject: str) -> None:
    found = read(folder).get(subject)
    if not found:
        raise click.ClickException(f"{folder} holds no curves of {subject}; run benchmarks.active_learning first.")
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "active-learning"  # the same file from the same curves
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8), layout="constrained", width_ratios=(3, 2))
    for name in [each for each in STRATEGIES if each in found]:
        curves = Curves.of(found[name])
        left.plot(curves.labels, curves.means, "-o", markersize=3, color=COLOURS[name], label=name)
        if len(curves.edits) > 1:
            seeds = curves.edits.mean(axis=2)
            left.fill_between(curves.labels, seeds.min(axis=0), seeds.max(axis=0), color=COLOURS[name], alpha=0.15)
    left.set(xlabel="labels", ylabel="words changed an image", title="learning curves")
    left.legend(frameon=False, fontsize=8)
    table, measured = calibrated(found.get(DEFAULT) or next(iter(found.values())))
    right.plot((0, 1), (0, 1), ":", color="#9a9a9a")
    if measured:
        chances, accepted, number = np.array([(each.chance, each.accepted, each.number) for each in measured.bins]).T
        spread = 1.96 * np.sqrt(accepted * (1 - accepted) / number)
        right.errorbar(chances, accepted, yerr=spread, fmt="o", markersize=4, color=COLOURS[DEFAULT], capsize=2)
        limit = 1.1 * max(chances.max(), (accepted + spread).max())
        right.set(xlim=(0, limit), ylim=(0, limit))
    rule = "a third of the words" if table["calibration_counts_near"] else "one word"
    right.set(xlabel="chance by its score", ylabel=f"share with at most {rule} changed", title="reliability of scores")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
