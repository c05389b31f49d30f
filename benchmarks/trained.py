"""Trains captioners for benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.captioner.checkpoint import read_info
from training.commands.progress import TrainingBar
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.errors import CheckpointError, ConfigError
from training.learning.train import train


def trained(rows: Sequence[Row], out: Path, config: TrainingConfig, cache: Path, device: str = "auto") -> Path:
    """The checkpoint at `out`, trained on these rows with this configuration; reused if it already exists."""
    if not _is_trained(rows, out, config):
        train(rows, out, config, cache_dir=cache, device=device)
    return out


def in_stages(
    rows: Sequence[Row], out: Path, stages: Mapping[str, TrainingConfig], device: str = "auto"
) -> Iterator[tuple[str, Captioner]]:
    """Each stage's name and the captioner after it; the next stage starts from that one. Checkpoints and features stay
    in `out`, and what is trained there already is not trained again."""
    captioner: Captioner | None = None
    is_new = False  # then what was trained from the stage before is of no use
    for name, config in stages.items():
        is_new = is_new or not _is_trained(rows, out / name, config)
        if is_new:
            with TrainingBar() as bar:
                train(
                    rows,
                    out / name,
                    config,
                    start_from=captioner,
                    cache_dir=out / "features",
                    progress=bar.update,
                    device=device,
                )
        captioner = checkpoint.load(out / name, device)
        yield name, captioner


def seconds(folder: Path) -> float:
    """The duration of a checkpoint's epochs, without the computation of features."""
    return sum(entry["seconds"] for entry in read_info(folder)["extra"]["history"])


def _is_trained(rows: Sequence[Row], out: Path, config: TrainingConfig) -> bool:
    try:
        record = read_info(out)["extra"]
        before = TrainingConfig.from_json(record["training"])
    except (CheckpointError, ConfigError):  # no checkpoint, or an earlier release's
        return False
    used = [row for row in rows if row.split in {manifest.TRAIN, manifest.DEV} and any(row.references)]
    same_config = before == replace(config, encoder=config.encoder.without_path())
    return same_config and record["data"] == manifest.content_hash(used)
