"""Checkpoints of earlier releases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.errors import CheckpointError


def with_value(folder: Path, part: str, name: str, value: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    config[part][name] = value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_an_option_that_left_is_ignored_where_it_did_nothing(tiny: Captioner, tmp_path: Path) -> None:
    folder = with_value(checkpoint.save(tmp_path / "old", tiny), "decoding", "consensus", False)
    assert checkpoint.load(folder, "cpu").decoding == tiny.decoding


def test_a_feature_that_left_is_refused_by_name(tiny: Captioner, tmp_path: Path) -> None:
    folder = with_value(checkpoint.save(tmp_path / "old", tiny), "decoding", "consensus", True)
    with pytest.raises(CheckpointError, match=r"uses decoding\.consensus, which this version no longer has"):
        checkpoint.load(folder, "cpu")
