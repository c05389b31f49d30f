"""`captioner evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.captioner import bundled
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
from training.commands.writing import Output, writing
from training.data.datasets import coco
from training.runtime.console import ProgressBar, counted, table

if TYPE_CHECKING:
    from training.evaluation.outcome import Outcome
    from training.metrics import Report


@click.command(
    epilog=example(
        "captioner evaluate checkpoint --dataset flickr8k --data-dir flickr8k --split test --html report.html",
        "captioner evaluate checkpoint --dataset nocaps --data-dir nocaps --split test --coco submission.json",
    )
)
@click.argument("checkpoint", type=CHECKPOINT, default=lambda: bundled.STARTER)
@source_options
@split_option
@json_file_option
@click.option(
    "--html", "html_file", type=Output(), help="Write a page with the scores and the best and worst captions here."
)
@click.option(
    "--coco",
    "coco_file",
    type=Output(),
    help="Write the captions here in COCO's results format, which nocaps takes too.",
)
@decoding_options
@cache_option
@device_option
def evaluate(
    checkpoint: Path,
    source: Source,
    split: str | None,
    json_file: Path | None,
    html_file: Path | None,
    coco_file: Path | None,
    overrides: Overrides,
    cache_dir: Path | None,
    device: str,
) -> None:
    """Score a captioner's captions against human captions.

    It captions images that have human captions. Without CHECKPOINT, or with the word `starter`, the captioner that
    comes with the project is scored.
    Two scores may be compared if their signatures are the same. Images without human captions, such as nocaps' test
    split, are captioned for --coco and --json.
    """
    read_info(checkpoint)
    source.check()
    captioner = load(checkpoint, device)
    decoding = decoding_with(captioner, overrides)
    rows = source.rows_to_score(split)

    from training.evaluation.evaluate import hypotheses
    from training.evaluation.outcome import has_references, score

    bare = sum(not has_references(row) for row in rows)
    if bare == len(rows) and not (coco_file or json_file):
        raise click.UsageError(
            f"No image has a human caption ({counted(bare, 'image')}): give --coco or --json for the captions."
        )
    if bare == len(rows) and html_file:
        raise click.UsageError(
            f"No image has a human caption ({counted(bare, 'image')}): --html has no scores to show."
        )
    if bare:
        say(f"Captioned but not scored, without a human caption: {bare} of {counted(len(rows), 'image')}.")
    with ProgressBar("Captioning") as bar:
        captions = hypotheses(captioner, rows, decoding, cache_dir or CACHE, bar.show)
    outcome = score(checkpoint.resolve().name, decoding.signature(), rows, [each.text for each in captions])

    if outcome.report:
        show(_scores(outcome.report))
        if outcome.subsets:
            show(_subsets(outcome))
    words = counted(outcome.distinct_words, "distinct word")
    show(f"{words}, {outcome.mean_length:.1f} words a caption, {outcome.decoding}")
    if outcome.warning:
        click.echo(f"Warning: {outcome.warning}", err=True)
    answer_in(json_file, outcome.to_json())
    if html_file and outcome.report:
        from training.evaluation.report import page

        with writing(html_file) as unfinished:
            unfinished.write_text(page(outcome, outcome.report), encoding="utf-8")
    if coco_file:
        with writing(coco_file) as unfinished:
            coco.export(outcome.rows, outcome.hypotheses, unfinished)


def _scores(report: Report) -> str:
    """A table of the scores with their signatures; a score that is not available has the reason."""
    return table(
        [
            (score.name, f"{score.value:.1f}", f"{score.signature}|{score.corpus}")
            if score
            else (name.upper(), "-", report.reasons[name])
            for name, score in report.scores.items()
        ],
        "<><",
    )


def _subsets(outcome: Outcome) -> str:
    """A table of the scores of each subset of the data set."""
    header = ["", "images"]
    lines = [[name, str(len(report.each))] for name, report in outcome.subsets.items()]
    for name, score in outcome.report.scores.items() if outcome.report else ():
        if score:
            header.append(score.name)
            for line, report in zip(lines, outcome.subsets.values(), strict=True):
                line.append(f"{part.value:.1f}" if (part := report.scores[name]) else "-")
    return "\n" + table([header, *lines], "<" + ">" * (len(header) - 1)) + "\n"
