"""Trains a captioner for a benchmark, unless an earlier run of it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from training.captioner.checkpoint import read_info
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
