"""The commands `train`, `evaluate` and `caption`. torch is imported inside them: help must not take seconds."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.errors import TrainingError

if TYPE_CHECKING:
    from training.fit import Progress
    from training.manifest import Row

STARTER_SCENES = 1800
STARTER_SEED = 1
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def _example(*lines: str) -> str:
    return "Example:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def _data_options(command: Any) -> Any:
    for option in (
        click.option("--limit", type=click.IntRange(1), help="Only the first so many images of each split."),
        click.option("--manifest", "manifest_file", type=FILE, help="A manifest (JSON lines) in place of a data set."),
        click.option("--data-dir", type=FOLDER, help="Where the data set's files are."),
        click.option("--dataset", type=click.Choice(["flickr8k"]), help="A data set in its original files."),
    ):
        command = option(command)
    return command


def _cache_option(command: Any) -> Any:
    return click.option(
        "--cache-dir",
        type=FOLDER,
        default=Path("data") / "features",
        show_default=True,
        help="Encoder outputs are kept here and computed once.",
    )(command)


_device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")


@click.command(
    epilog=_example(
        "captioner train --dataset flickr8k --data-dir flickr8k --encoder mobilenet_v2 --out checkpoint",
        "captioner train --scenes --out starter",
    )
)
@_data_options
@click.option("--scenes", is_flag=True, help="Generated scenes, drawn into --data-dir: the starter captioner.")
@click.option("--out", type=FOLDER, required=True, help="Folder of the checkpoint.")
@click.option("--start-from", type=FOLDER, help="A checkpoint to learn on from.")
@click.option("--encoder", default="mobilenet_v2", show_default=True, help="mobilenet_v2, resnet50 or small_cnn.")
@click.option("--encoder-weights", default=None, help="imagenet (torchvision's download), a file, or none [imagenet].")
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int, help="Images a step.")
@click.option("--learning-rate", type=float)
@click.option("--seed", type=int)
@_cache_option
@_device
def train(
    dataset: str | None,
    data_dir: Path | None,
    manifest_file: Path | None,
    limit: int | None,
    scenes: bool,
    out: Path,
    start_from: Path | None,
    encoder: str,
    encoder_weights: str | None,
    cache_dir: Path,
    device: str,
    **changes: Any,
) -> None:
    """Train a captioner and write its checkpoint to --out."""
    from training.checkpoint import encoder_of
    from training.config import TrainingConfig

    changes = {name: value for name, value in changes.items() if value is not None}
    if scenes:
        from training.scenes import write

        config = TrainingConfig.starter(**changes)
        folder = data_dir or out.with_name(f"{out.name}-scenes")
        click.echo(f"Drawing {limit or STARTER_SCENES} scenes into {folder}.")
        write(folder, limit or STARTER_SCENES, STARTER_SEED)
        rows = _rows(None, None, folder / "manifest.jsonl", None, None)
        cache_dir = folder / "cache"
    else:
        rows = _rows(dataset, data_dir, manifest_file, None, limit)
        if start_from:
            config = TrainingConfig.retraining(encoder_of(start_from), **changes)
        else:
            weights = encoder_weights or ("none" if encoder == "small_cnn" else "imagenet")
            config = TrainingConfig.photos(encoder, weights, **changes)

    from training import checkpoint
    from training.fit import train as fit

    with _Bar() as bar:
        fit(rows, out, config, start_from=start_from, cache_dir=cache_dir, progress=bar.show, device=device)
    learnt = checkpoint.read_info(out)["extra"]
    click.echo(f"The checkpoint is in {out}: {learnt['images']} images, {learnt['seconds']:.0f} s.")


@click.command(epilog=_example("captioner evaluate checkpoint --dataset flickr8k --data-dir flickr8k --split dev"))
@click.argument("checkpoint", type=FOLDER)
@_data_options
@click.option("--split", default=None, help="train, dev, test or held_out [dev, or all rows of a manifest].")
@click.option("--json", "json_file", type=FILE, help="Write scores and a row an image here.")
@click.option("--beam", type=int, help="Width of the beam search.")
@_cache_option
@_device
def evaluate(
    checkpoint: Path,
    dataset: str | None,
    data_dir: Path | None,
    manifest_file: Path | None,
    limit: int | None,
    split: str | None,
    json_file: Path | None,
    beam: int | None,
    cache_dir: Path,
    device: str,
) -> None:
    """Caption images whose human captions are known, and score the captions."""
    from dataclasses import replace

    from tqdm import tqdm

    from training import checkpoint as checkpoints
    from training import metrics
    from training.evaluate import evaluate as judge

    checkpoints.read_info(checkpoint)
    rows = _rows(dataset, data_dir, manifest_file, split or (None if manifest_file else "dev"), limit)
    captioner = checkpoints.load(checkpoint, device)
    decoding = replace(captioner.decoding, beam=beam).validate() if beam is not None else captioner.decoding
    with tqdm(total=len(rows), desc="Captioning", unit="image", leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        found = judge(
            captioner,
            rows,
            model=checkpoint.name,
            voting_set=split or "all",
            decoding=decoding,
            cache_dir=cache_dir,
            progress=show,
        )
    scores = [metrics.bleu(found.hypotheses, found.references, n) for n in (1, 2, 3, 4)]
    words, length = metrics.distinct_words(found.hypotheses), metrics.mean_length(found.hypotheses)
    for score in scores:
        click.echo(f"{score.name}  {score.value:5.1f}  {score.signature}|{score.corpus}")
    click.echo(f"{words} distinct words, {length:.1f} words a caption, {found.decoding}")
    if json_file:
        result = {
            "checkpoint": checkpoint.name,
            "decoding": found.decoding,
            "scores": {score.name: score.to_json() for score in scores},
            "distinct_words": words,
            "mean_length": length,
            "images": [
                {"image": row.image.name, "sha256": row.sha256, "hypothesis": told, "references": list(row.references)}
                for row, told in zip(rows, found.hypotheses, strict=True)
            ],
        }
        json_file.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@click.command(epilog=_example("captioner caption checkpoint photo.jpg another.png"))
@click.argument("checkpoint", type=FOLDER)
@click.argument("images", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--beam", type=int, help="Width of the beam search.")
@_device
def caption(checkpoint: Path, images: Sequence[Path], beam: int | None, device: str) -> None:
    """Caption image files: a line each, with the score of the caption."""
    from dataclasses import replace

    from training import checkpoint as checkpoints
    from training.errors import DataError

    checkpoints.read_info(checkpoint)
    captioner = checkpoints.load(checkpoint, device)
    decoding = replace(captioner.decoding, beam=beam).validate() if beam is not None else None
    failed = 0
    for image, found in zip(images, captioner.caption(images, decoding), strict=True):
        if isinstance(found, DataError):
            failed += 1
            click.echo(str(found), err=True)
        else:
            click.echo(f"{image}\t{found.score:.2f}\t{found.text}")
    if failed:
        raise click.ClickException(f"{failed} of {len(images)} images could not be captioned.")


commands: list[click.Command] = [train, evaluate, caption]


def _rows(
    dataset: str | None, data_dir: Path | None, manifest_file: Path | None, split: str | None, limit: int | None
) -> list[Row]:
    from training import datasets

    if manifest_file and not dataset:
        return datasets.read("jsonl", manifest_file, split, limit)
    if dataset and data_dir and not manifest_file:
        return datasets.read(dataset, data_dir, split, limit)
    raise click.UsageError("Give --dataset with --data-dir, or --manifest.")


class _Bar:
    """One progress bar a phase of the training."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar = tqdm(leave=False)
        self._phase = ("", 0)

    def show(self, progress: Progress) -> None:
        if (progress.phase, progress.epoch) != self._phase:
            self._phase = (progress.phase, progress.epoch)
            self._bar.reset(total=progress.steps)
            names = {"prepare": "Images", "train": f"Epoch {progress.epoch} of {progress.epochs}"}
            self._bar.set_description(names.get(progress.phase, progress.phase))
        self._bar.update(progress.step - self._bar.n)
        if progress.loss is not None:
            self._bar.set_postfix(loss=f"{progress.loss:.3f}", refresh=False)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


class _Plain(click.Group):
    """Our own errors in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TrainingError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Plain, commands=commands)
def main() -> None:
    """A captioner from images and captions, without Label Studio."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


if __name__ == "__main__":
    main()
