"""The loop on real photographs: Flickr8k in a real Label Studio, corrected from its human captions.

    python -m benchmarks.photos --data flickr8k --weights mobilenet_v2.pth [--encoder mobilenet_v2] [--quick]

Trains a captioner on some training images, serves it, imports dev photos into Label Studio, submits for each photo the
human caption with the fewest word edits from its draft, and waits for the retrain and its verdict.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from backend.domain.errors import CaptionerError
from backend.system.ports import free_port
from backend.up.launch import Launch
from benchmarks.report import report
from demo.project import Project
from demo.report import version_table
from training.data import datasets, manifest
from training.errors import TrainingError
from training.metrics import word_edits

MEANINGS = {
    "train_seconds": "s, features and training",
    "train_images": "images trained on, five captions each",
    "photos": "photos corrected in Label Studio",
    "kept_share": "of the drafts, kept unchanged",
    "edits": "words changed a word of the correction",
    "retrain_seconds": "s, the retrain",
    "champion_bleu4": "BLEU-4 of the served captioner on the held-out corrections, with one reference each",
    "candidate_bleu4": "BLEU-4 of the retrained captioner on the same",
    "pairs": "held-out corrections",
    "promoted": "1: the gate promoted it",
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option(
    "--weights", type=click.Path(path_type=Path, exists=True), required=True, help="File of the encoder's weights."
)
@click.option("--encoder", default="mobilenet_v2", show_default=True)
@click.option("--images", default=1500, show_default=True, help="Training images.")
@click.option("--epochs", default=6, show_default=True)
@click.option("--photos", default=60, show_default=True, help="Photos to correct.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, weights: Path, encoder: str, images: int, epochs: int, photos: int, quick: bool) -> None:
    if quick:
        images, epochs, photos = 64, 1, 12
    try:
        with TemporaryDirectory(prefix="captioner-photos-") as name:
            _run(Path(name), data, weights, encoder, images, epochs, photos)
    except (CaptionerError, TrainingError) as error:
        raise click.ClickException(str(error)) from error


def _run(folder: Path, data: Path, weights: Path, encoder: str, images: int, epochs: int, photos: int) -> None:
    checkpoint = folder / "flickr8k"
    argv = [sys.executable, "-P", "-m", "backend.cli", "train", "--dataset", "flickr8k", "--data-dir", str(data)]
    argv += ["--encoder", encoder, "--encoder-weights", str(weights), "--limit", str(images), "--epochs", str(epochs)]
    argv += ["--cache-dir", str(folder / "features")]
    begun = time.monotonic()
    if subprocess.run([*argv, "--out", str(checkpoint)], check=False).returncode:
        raise CaptionerError("The captioner could not be trained; the reason is printed above.")
    train_seconds = time.monotonic() - begun

    rows = datasets.read("flickr8k", data, split=manifest.DEV, limit=photos)
    references = {row.image.name: row.references for row in rows}
    (folder / "photos").mkdir()
    for row in rows:
        shutil.copy(row.image, folder / "photos")

    def correct(image: Path, draft: str) -> str:
        return min(references[image.name], key=lambda caption: word_edits(draft, caption))

    flags = ["--images", str(folder / "photos"), "--checkpoint", str(checkpoint), "--retrain-every", "0"]
    flags += ["--port", str(free_port()), "--label-studio-port", str(free_port())]
    with Launch(folder / "data", *flags) as state:
        project = Project(state, folder / "data")
        # `up` imported the photos in order of their names
        tasks = sorted(task["id"] for task in project.client.tasks(project.id))
        paths = sorted((folder / "photos").iterdir())
        begun = time.monotonic()
        submissions = project.caption(paths, correct, "Correcting", tasks)
        project.retrain(1)
        versions, retrain, drafts = project.versions(), project.retrains()[0], project.drafts_by_version()
        print("\n" + version_table(versions, drafts))
    verdict = next(version["verdict"] for version in versions if version["name"] == retrain["version"])
    trained = {"train_seconds": train_seconds, "train_images": images, "retrain_seconds": retrain["seconds"]}
    report("photos", trained | {"photos": len(submissions)} | _figures(drafts[0], verdict), MEANINGS)


def _figures(drafts: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, float]:
    """How the drafts were changed, and the verdict on the retrain."""
    figures = {
        "kept_share": drafts["kept_share"],
        "edits": drafts["edits"],
        "pairs": verdict["pairs"],
        "promoted": float(verdict["decision"] == "promote"),
    }
    for role in ("champion", "candidate"):  # no scores if by chance no photo was held out
        if verdict[f"{role}_score"]:
            figures[f"{role}_bleu4"] = verdict[f"{role}_score"]["value"]
    return figures


if __name__ == "__main__":
    main()
