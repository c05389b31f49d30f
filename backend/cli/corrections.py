"""`captioner export`: the corrections of a project as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, setting, settings_from, store_of

STDOUT = Path("-")


@click.command(
    epilog=example(
        "captioner export --project 1 --format jsonl --out corrections.jsonl",
        "captioner export --project 1 --format coco --split train --images coco/train2017 "
        "--out coco/annotations/captions_train2017.json",
    )
)
@setting("data_dir")
@setting("database_url")
@setting("images_url")
@click.option("--project", type=int, required=True, help="The number in the project's address.")
@click.option("--format", "form", type=click.Choice(["coco", "jsonl", "csv"]), default="jsonl", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    required=True,
    help="The file; - is standard output.",
)
@click.option("--all", "everything", is_flag=True, help="Skipped and deleted ones and past revisions too, marked.")
@click.option(
    "--split",
    "splits",
    type=click.Choice(["train", "dev", "held_out", "blind"]),
    multiple=True,
    help="Only those: learnt, choosing, judging, judging without a draft; may be repeated.",
)
@click.option("--images", type=click.Path(path_type=Path, file_okay=False), help="Copy the images to this folder.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
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
    """Write the corrected captions of a project, each beside the draft it was made from.

    `captioner train` reads all three: --dataset jsonl, csv, or coco2017 where file and images have COCO's names.
    """
    from backend.reports import export as exporting

    if out != STDOUT and out.exists() and not force:
        raise click.UsageError(f"{out} is there already; give --force to overwrite it, or another --out.")
    settings = settings_from(flags)
    found = exporting.pairs(settings, store_of(settings), project, everything)
    if splits:
        found = [pair for pair in found if pair.split in splits]
        if not found:
            raise exporting.ExportError(f"Project {project} has no corrections of the split {' or '.join(splits)}.")
    if images is not None:
        found = exporting.with_copies(settings, found, images)
    folder = images if form == "coco" else None if out == STDOUT else out.parent
    chunks = exporting.FORMATS[form](found, folder)
    if out == STDOUT:
        for chunk in chunks:
            click.echo(chunk.encode("utf-8", errors="replace"), nl=False)
    else:
        exporting.save(chunks, out)
    away = sum(pair.image is None for pair in found)
    click.echo(
        f"{len(found)} annotations of project {project} are exported"
        + (f"; the images of {away} of them are not here, and `captioner train` leaves those out." if away else "."),
        err=True,
    )
