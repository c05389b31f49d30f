"""Checkpoints of earlier releases."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.data.manifest import Row
from training.decoding.retrieval import RetrievalMemory
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


def test_retrieval_memory_is_read_under_its_old_names(
    tiny: Captioner, coloured_rows: list[Row], tmp_path: Path
) -> None:
    features = torch.randn(2, tiny.encoder.channels)
    tiny.retrieval = RetrievalMemory.build(coloured_rows[:2], features, tiny.vocabulary, 9)
    folder = checkpoint.save(tmp_path / "old", tiny)
    weights = load_file(folder / "model.safetensors")
    for old, new in (("hashes", "hashes"), ("seen", "features"), ("captions", "captions")):
        weights[f"neighbours.{old}"] = weights.pop(f"retrieval.{new}")
    save_file(weights, folder / "model.safetensors")
    loaded = checkpoint.load(folder, "cpu").retrieval
    assert loaded is not None
    assert all(torch.equal(value, tiny.retrieval.tensors()[name]) for name, value in loaded.tensors().items())
