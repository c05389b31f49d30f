"""`captioner compare`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.captioner.checkpoint import load, read_info
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
from training.commands.writing import Output, write_json
from training.runtime.console import ProgressBar, table

if TYPE_CHECKING:
    from training.captioner.captioner import Captioner
    from training.config import DecodingConfig
    from training.data.manifest import Row
    from training.metrics import Report

TIMED = 64  # images captioned again to measure the speed


@dataclass(frozen=True)
class _Entry:
    """A row of the comparison; `values` are by the names of `_COLUMNS`, None for a score that is not available."""

    checkpoint: str
    report: Report
    values: dict[str, float | None]


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
@click.option("--json", "json_file", type=Output(), help="Write the comparison here.")
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
    """Score several checkpoints on the same images with the same decoding: the first checkpoint's, or the options'.

    The speed includes reading the image files. A star marks the best value of each column; for words a caption that is
    the value closest to the human captions'.
    """
    if len(checkpoints) < 2:
        raise click.UsageError("Give at least two checkpoints to compare.")
    for checkpoint in checkpoints:
        read_info(checkpoint)
    decoding = decoding_with(load(checkpoints[0], device), overrides)
    captioned, human_length = _captioned(source.rows_to_score(split))
    entries = [
        _entry(checkpoint, load(checkpoint, device), captioned, decoding, cache_dir or CACHE)
        for checkpoint in checkpoints
    ]
    best = _best(entries, human_length)
    click.echo(_table(entries, best))
    report = entries[0].report
    for name in _COLUMNS:
        if score := report.scores.get(name):
            click.echo(f"{score.name}: {score.signature}|{score.corpus}")
    click.echo(f"Human captions: {human_length:.1f} words a caption. Decoding: {decoding.signature()}")
    if json_file:
        write_json(json_file, _to_json(entries, best, decoding, human_length))


def _captioned(rows: Sequence[Row]) -> tuple[list[Row], float]:
    """The rows with human captions, and the mean number of words of these captions."""
    from training.evaluation.outcome import has_references
    from training.metrics import mean_length

    captioned = [row for row in rows if has_references(row)]
    if not captioned:
        raise click.UsageError(f"None of the {len(rows)} images has a human caption: there is nothing to score by.")
    return captioned, mean_length([text for row in captioned for text in row.references])


def _entry(
    checkpoint: Path, captioner: Captioner, rows: Sequence[Row], decoding: DecodingConfig, cache_dir: Path
) -> _Entry:
    from training.evaluation.evaluate import hypotheses
    from training.evaluation.outcome import score

    if decoding.neighbours and captioner.retrieval is None:
        click.echo(f"{checkpoint} has no index of training images: its captions are not reranked.")
    with ProgressBar(str(checkpoint)) as bar:
        captions = hypotheses(captioner, rows, decoding, cache_dir, bar.show)
    outcome = score(str(checkpoint), decoding.signature(), rows, [each.text for each in captions])
    assert outcome.report is not None
    images = [row.image for row in rows[:TIMED]]
    captioner.caption(images[:1], decoding)  # warms up
    began = time.perf_counter()
    captioner.caption(images, decoding)
    speed = len(images) / (time.perf_counter() - began)
    values = {name: each.value if each else None for name, each in outcome.report.scores.items()}
    values |= {"distinct_words": outcome.distinct_words, "mean_length": outcome.mean_length, "captions_a_second": speed}
    return _Entry(str(checkpoint), outcome.report, values)


def _best(entries: Sequence[_Entry], human_length: float) -> dict[str, list[int]]:
    """The indices of the best entries, by column; columns without values are left out."""
    best = {}
    for column in _COLUMNS:
        values = {number: value for number, entry in enumerate(entries) if (value := entry.values[column]) is not None}
        if column == "mean_length":
            values = {number: -abs(value - human_length) for number, value in values.items()}
        if values:
            best[column] = [number for number, value in values.items() if value == max(values.values())]
    return best


def _table(entries: Sequence[_Entry], best: dict[str, list[int]]) -> str:
    header = ["", *(f"{_COLUMNS[column]}  " for column in best)]
    rows = []
    for number, entry in enumerate(entries):
        cells = [entry.checkpoint]
        for column, winners in best.items():
            value = entry.values[column]
            digits = 0 if column == "distinct_words" else 1
            shown = "-" if value is None else f"{value:.{digits}f}"
            cells.append(f"{shown} {'*' if number in winners else ' '}")
        rows.append(cells)
    return table([header, *rows], "<" + ">" * len(best))


def _to_json(
    entries: Sequence[_Entry], best: dict[str, list[int]], decoding: DecodingConfig, human_length: float
) -> dict[str, Any]:
    from training.evaluation.outcome import scores_to_json

    described = [scores_to_json(entry.report) for entry in entries]
    return {
        "decoding": decoding.signature(),
        "images": len(entries[0].report.each),
        "signatures": described[0]["signatures"],
        "unavailable": described[0]["unavailable"],
        "human_mean_length": human_length,
        "checkpoints": [
            {"checkpoint": entry.checkpoint, "scores": each["scores"]}
            | {name: entry.values[name] for name in ("distinct_words", "mean_length", "captions_a_second")}
            for entry, each in zip(entries, described, strict=True)
        ],
        "best": {column: [entries[number].checkpoint for number in winners] for column, winners in best.items()},
    }
