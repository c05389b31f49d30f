"""`captioner compare`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.captioner.checkpoint import load, read_info
from training.commands.answers import answer_in, json_file_option, say, show
from training.commands.options import (
    CACHE,
    CHECKPOINT,
    Overrides,
    Source,
    cache_option,
    decoding_options,
    decoding_with,
    device_option,
    example,
    source_options,
    split_option,
)
from training.runtime.console import ProgressBar, counted, table

if TYPE_CHECKING:
    from training.captioner.captioner import Captioner
    from training.config import DecodingConfig
    from training.data.manifest import Row
    from training.metrics import Report

TIMED = 64  # images captioned again to measure the speed

Values = dict[str, float | None]
"""The scores of a checkpoint and the other columns by name, None for a score that is not available."""


_COLUMNS = {
    "bleu4": "BLEU-4",
    "cider_d": "CIDEr-D",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "distinct_words": "distinct words",
    "mean_length": "words a caption",
    "captions_a_second": "captions a second",
}


@click.command(
    epilog=example("captioner compare lstm gru --dataset flickr8k --data-dir flickr8k --split test --beam 3"),
)
@click.argument("checkpoints", type=CHECKPOINT, nargs=-1, required=True)
@source_options
@split_option
@json_file_option
@decoding_options
@cache_option
@device_option
def compare(
    checkpoints: Sequence[Path],
    source: Source,
    split: str | None,
    json_file: Path | None,
    overrides: Overrides,
    cache_dir: Path | None,
    device: str,
) -> None:
    """Score several checkpoints on the same images.

    All decode alike: as the first checkpoint does, or as the options say. The speed includes reading the image files.
    A star marks the best value of each column; for words a caption that is the value closest to the human captions'.
    """
    if len(checkpoints) < 2:
        raise click.UsageError("Give at least two checkpoints to compare.")
    for checkpoint in checkpoints:
        read_info(checkpoint)
    source.check()
    decoding = decoding_with(load(checkpoints[0], device), overrides)
    rows = source.rows_to_score(split)

    from training.evaluation.outcome import SCORES, has_references, scores_to_json
    from training.metrics import mean_length

    captioned = [row for row in rows if has_references(row)]
    if not captioned:
        raise click.UsageError(
            f"No image has a human caption ({counted(len(rows), 'image')}): there is nothing to score by."
        )
    human_length = mean_length([text for row in captioned for text in row.references])
    measured = [
        _measured(checkpoint, load(checkpoint, device), captioned, decoding, cache_dir or CACHE)
        for checkpoint in checkpoints
    ]
    entries, report = [values for _, values in measured], measured[0][0]
    best = _best(entries, human_length)
    header = ["", *(f"{_COLUMNS[column]}  " for column in best)]
    lines = [
        [str(checkpoint), *(_cell(column, values[column], number in best[column]) for column in best)]
        for number, (checkpoint, values) in enumerate(zip(checkpoints, entries, strict=True))
    ]
    show(table([header, *lines], "<" + ">" * len(best)))
    for name in _COLUMNS:
        if score := report.scores.get(name):
            show(f"{score.name}: {score.signature}|{score.corpus}")
    show(f"Human captions: {human_length:.1f} words a caption. Decoding: {decoding.signature()}")
    if json_file:
        described = scores_to_json(report)
        comparison = {
            "decoding": decoding.signature(),
            "images": len(captioned),
            "signatures": described["signatures"],
            "unavailable": described["unavailable"],
            "human_mean_length": human_length,
            "checkpoints": [
                {"checkpoint": str(checkpoint), "scores": {name: values.pop(name) for name in SCORES}, **values}
                for checkpoint, values in zip(checkpoints, entries, strict=True)
            ],
            "best": {column: [str(checkpoints[number]) for number in winners] for column, winners in best.items()},
        }
        answer_in(json_file, comparison)


def _measured(
    checkpoint: Path, captioner: Captioner, rows: Sequence[Row], decoding: DecodingConfig, cache_dir: Path
) -> tuple[Report, Values]:
    from training.evaluation.evaluate import hypotheses
    from training.evaluation.outcome import score

    if decoding.neighbours and captioner.retrieval is None:
        say(f"{checkpoint} has no index of training images: its captions are not reranked.")
    with ProgressBar(str(checkpoint)) as bar:
        captions = hypotheses(captioner, rows, decoding, cache_dir, bar.show)
    outcome = score(str(checkpoint), decoding.signature(), rows, [each.text for each in captions])
    assert outcome.report is not None
    if outcome.warning:
        click.echo(f"Warning: {checkpoint}: {outcome.warning}", err=True)
    images = [row.image for row in rows[:TIMED]]
    captioner.caption(images[:1], decoding)  # warms up
    began = time.perf_counter()
    captioner.caption(images, decoding)
    speed = len(images) / (time.perf_counter() - began)
    values: Values = {name: each.value if each else None for name, each in outcome.report.scores.items()}
    values |= {"distinct_words": outcome.distinct_words, "mean_length": outcome.mean_length, "captions_a_second": speed}
    return outcome.report, values


def _best(entries: Sequence[Values], human_length: float) -> dict[str, list[int]]:
    """The indices of the best entries, by column; columns without values are left out."""
    best = {}
    for column in _COLUMNS:
        values = {number: value for number, entry in enumerate(entries) if (value := entry[column]) is not None}
        if column == "mean_length":
            values = {number: -abs(value - human_length) for number, value in values.items()}
        if values:
            best[column] = [number for number, value in values.items() if value == max(values.values())]
    return best


def _cell(column: str, value: float | None, best: bool) -> str:
    digits = 0 if column == "distinct_words" else 1
    return f"{'-' if value is None else f'{value:.{digits}f}'} {'*' if best else ' '}"
