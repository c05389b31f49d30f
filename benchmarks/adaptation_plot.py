"""A plot of what `benchmarks.adaptation` found: word edits by the number of corrections, in three scenarios.

pip install '.[plots]'
python -m benchmarks.adaptation_plot DIR/results.json docs/adaptation.svg
"""

from __future__ import annotations

import json
from pathlib import Path

import click

TITLES = {"winter": "a new subject", "style": "a house style", "same": "more of the same"}
RECIPES = {"before": ("0.1.0", "#9a9a9a", "--"), "today": ("today", "#1f5fbf", "-")}  # label, colour, line


@click.command()
@click.argument("results", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
def main(results: Path, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "adaptation"  # the same file from the same results
    from matplotlib import pyplot

    found = json.loads(results.read_text(encoding="utf-8"))
    figure, axes = pyplot.subplots(1, len(TITLES), figsize=(10, 3.4), sharey=True, layout="constrained")
    for axis, (scenario, title) in zip(axes, TITLES.items(), strict=True):
        base = [each for each in found if (each["scenario"], each["recipe"]) == (scenario, "base")]
        for recipe, (label, colour, line) in RECIPES.items():
            retrained = [each for each in found if (each["scenario"], each["recipe"]) == (scenario, recipe)]
            points = sorted((each["corrections"], each["edits"]) for each in base + retrained)
            axis.plot(*zip(*points, strict=True), line, color=colour, marker="o", markersize=4, label=label)
        axis.set(title=title, xlabel="corrections")
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="words changed a word of the correction")
    axes[-1].legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
