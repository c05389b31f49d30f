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
        "captioner export --project 1 --to hf-datasets captions",
    )
)
@setting("data_dir", "database_url", "images_url")
@project_option()
@click.option("--format", "form", type=click.Choice(["coco", "jsonl", "csv"]), default="jsonl", show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="The file; - is standard output.",
)
@click.option(
    "--to",
    "target",
    type=(click.Choice(["hf-datasets"]), click.Path(path_type=Path, file_okay=False)),
    metavar="hf-datasets FOLDER",
    help="In place of --out: a new folder with the images, which Hugging Face's `datasets.load_dataset` reads.",
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
    out: Path | None,
    target: tuple[str, Path] | None,
    everything: bool,
    splits: tuple[str, ...],
    images: Path | None,
    force: bool,
    **flags: Any,
) -> None:
    """Write the corrected captions of a project to a file.

    Each has the draft it was made from. `captioner train` reads all three formats: --dataset jsonl, csv, or coco2017 if
    file and images have COCO's names. With --to hf-datasets the folder gets a copy of every image, in the splits train,
    validation and test.
    """
    from backend.reports.export import formats, hf_datasets
    from backend.reports.export.pairs import pairs as pairs_of
    from backend.reports.export.pairs import with_copies
    from training.runtime.console import counted

    if (out is None) == (target is None):
        raise click.UsageError("Give --out for a file, or --to hf-datasets for a folder.")
    if out == STDOUT and as_json():
        raise click.UsageError("--out - and --json both write to standard output: leave out one of them.")
    if target is not None:
        if form != "jsonl" or everything or images is not None or force:
            raise click.UsageError("--to takes none of --format, --all, --images and --force.")
        hf_datasets.check(target[1])
    elif out is not None and out != STDOUT and out.exists() and not force:
        raise click.UsageError(f"{out} exists already: give --force to overwrite it, or another --out.")
    settings = settings_from(flags)
    pairs = pairs_of(settings, store_of(settings), project, everything)
    if splits:
        pairs = [pair for pair in pairs if pair.split in splits]
        if not pairs:
            raise CaptionerError(f"Project {project} has no corrections of the split {' or '.join(splits)}.")
    if target is not None:
        written = hf_datasets.write(settings, project, pairs, target[1])
        answer({"project": project, "format": target[0], "out": str(target[1]), **vars(written)})
        click.echo(f"{target[1]} has {written}", err=True)
        return
    assert out is not None
    if images is not None:
        pairs = with_copies(settings, pairs, images)
    folder = images if form == "coco" else None if out == STDOUT else out.parent
    chunks = formats.FORMATS[form](pairs, folder)
    if out == STDOUT:
        for chunk in chunks:
            click.echo(chunk.encode("utf-8", errors="replace"), nl=False)
    else:
        formats.save(chunks, out)
    missing = sum(pair.image is None for pair in pairs)
    counts = {"project": project, "format": form, "out": str(out), "annotations": len(pairs), "without_image": missing}
    answer(counts)
    click.echo(
        f"{counted(len(pairs), 'annotation')} of project {project} {'is' if len(pairs) == 1 else 'are'} exported"
        + (f"; {missing} of them have no image here, and `captioner train` skips those." if missing else "."),
        err=True,
    )
