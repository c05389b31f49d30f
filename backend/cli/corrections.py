"""`captioner export`: writes the corrections of a project to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, project_option, setting, settings_from, store_of
from backend.domain.errors import CaptionerError
from training.commands.answers import answer, as_json, json_option

STDOUT = Path("-")


@click.command(
    epilog=example(
        "captioner export --project 1 --format jsonl --out corrections.jsonl",
        "captioner export --project 1 --format coco --split train --images coco/train2017 "
        "--out coco/annotations/captions_train2017.json",
    )
)
@setting("data_dir", "database_url", "images_url")
@project_option()
@click.option("--format", "form", type=click.Choice(["coco", "jsonl", "csv"]), default="jsonl", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    required=True,
    help="The file; - is standard output.",
)
@click.option("--all", "everything", is_flag=True, help="Include skipped, deleted and past revisions, each marked.")
@click.option(
    "--split",
    "splits",
    type=click.Choice(["train", "dev", "held_out", "blind"]),
    multiple=True,
    help="Only this split: training, checkpoint selection, gate, gate without drafts. May be repeated.",
)
@click.option("--images", type=click.Path(path_type=Path, file_okay=False), help="Copy the images to this folder.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@json_option
def export(
    project: int,
    form: str,
    out: Path,
    everything: bool,
    splits: tuple[str, ...],
    images: Path | None,
    force: bool,
    **flags: Any,
) -> None:
    """Write the corrected captions of a project to a file.

    Each has the draft it was made from. `captioner train` reads all three formats: --dataset jsonl, csv, or coco2017 if
    file and images have COCO's names.
    """
    from backend.reports import export as exporting
    from training.runtime.console import counted

    if out == STDOUT and as_json():
        raise click.UsageError("--out - and --json both write to standard output: leave out one of them.")
    if out != STDOUT and out.exists() and not force:
        raise click.UsageError(f"{out} exists already: give --force to overwrite it, or another --out.")
    settings = settings_from(flags)
    pairs = exporting.pairs(settings, store_of(settings), project, everything)
    if splits:
        pairs = [pair for pair in pairs if pair.split in splits]
        if not pairs:
            raise CaptionerError(f"Project {project} has no corrections of the split {' or '.join(splits)}.")
    if images is not None:
        pairs = exporting.with_copies(settings, pairs, images)
    folder = images if form == "coco" else None if out == STDOUT else out.parent
    chunks = exporting.FORMATS[form](pairs, folder)
    if out == STDOUT:
        for chunk in chunks:
            click.echo(chunk.encode("utf-8", errors="replace"), nl=False)
    else:
        exporting.save(chunks, out)
    missing = sum(pair.image is None for pair in pairs)
    counts = {"project": project, "format": form, "out": str(out), "annotations": len(pairs), "without_image": missing}
    answer(counts)
    click.echo(
        f"{counted(len(pairs), 'annotation')} of project {project} {'is' if len(pairs) == 1 else 'are'} exported"
        + (f"; {missing} of them have no image here, and `captioner train` skips those." if missing else "."),
        err=True,
    )
