"""`captioner evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.captioner.checkpoint import load, read_info
from training.commands.options import (
    CACHE,
    CHECKPOINT,
    Asked,
    Source,
    cache_option,
    chosen,
    decoding_options,
    device_option,
    example,
    source_options,
    split_option,
)
from training.commands.writing import Output, write_json, writing
from training.data.datasets import coco_format
from training.runtime.console import ProgressBar, table

if TYPE_CHECKING:
    from training.evaluation.outcome import Outcome
    from training.metrics import Report


@click.command(
    epilog=example(
        "captioner evaluate checkpoint --dataset flickr8k --data-dir flickr8k --split test --html report.html",
        "captioner evaluate checkpoint --dataset nocaps --data-dir nocaps --split test --coco submission.json",
    )
)
@click.argument("checkpoint", type=CHECKPOINT)
@source_options
@split_option
@click.option("--json", "json_file", type=Output(), help="Write scores and a row an image here.")
@click.option("--html", "html_file", type=Output(), help="Write a page with scores, best and worst captions here.")
@click.option("--coco", "coco_file", type=Output(), help="Write the captions here as COCO's results: nocaps' as well.")
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
    asked: Asked,
    cache_dir: Path | None,
    device: str,
) -> None:
    """Caption images and score the captions by what people said of the same images.

    Two scores may be compared when their signatures are the same. Images that nobody captioned, as nocaps publishes
    them, are captioned for --coco and --json.
    """
    read_info(checkpoint)
    captioner = load(checkpoint, device)
    decoding = chosen(captioner, asked)
    rows = source.rows_to_judge(split)

    from training.evaluation.evaluate import hypotheses
    from training.evaluation.outcome import is_captioned, judge

    bare = sum(not is_captioned(row) for row in rows)
    if bare == len(rows) and not (coco_file or json_file):
        raise click.UsageError(f"Nobody captioned these {bare} images: say where captions go with --coco or --json.")
    if bare == len(rows) and html_file:
        raise click.UsageError(f"Nobody captioned these {bare} images: --html has no scores to show.")
    if bare:
        click.echo(f"{bare} of {len(rows)} images have no human caption: they are captioned, not scored.")
    with ProgressBar("Captioning") as bar:
        told = hypotheses(captioner, rows, decoding, cache_dir or CACHE, bar.show)
    outcome = judge(checkpoint.resolve().name, decoding.signature(), rows, [one.text for one in told])

    if outcome.report:
        click.echo(_scores(outcome.report))
        if outcome.subsets:
            click.echo(_subsets(outcome))
    click.echo(
        f"{outcome.distinct_words} distinct words, {outcome.mean_length:.1f} words a caption, {outcome.decoding}"
    )
    if json_file:
        write_json(json_file, outcome.to_json())
    if html_file and outcome.report:
        from training.evaluation.report import page

        with writing(html_file) as unfinished:
            unfinished.write_text(page(outcome, outcome.report), encoding="utf-8")
    if coco_file:
        with writing(coco_file) as unfinished:
            coco_format.export(outcome.rows, outcome.hypotheses, unfinished)


def _scores(report: Report) -> str:
    """A line a score with its signature, or with the reason why there is none."""
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
    """A line a subset of the data set."""
    heads = ["", "images"]
    lines = [[name, str(len(report.each))] for name, report in outcome.subsets.items()]
    for name, score in outcome.report.scores.items() if outcome.report else ():
        if score:
            heads.append(score.name)
            for line, report in zip(lines, outcome.subsets.values(), strict=True):
                line.append(f"{found.value:.1f}" if (found := report.scores[name]) else "-")
    return "\n" + table([heads, *lines], "<" + ">" * (len(heads) - 1)) + "\n"
