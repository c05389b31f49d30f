"""Checkpoints whose files were changed by hand or by a failing disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.errors import CheckpointError
from training.vocabulary import Style, Vocabulary


@pytest.fixture
def captioner() -> Captioner:
    torch.manual_seed(1)
    return Captioner(
        EncoderConfig("small_cnn", "none", "all"),
        DecoderConfig(embedding=8, hidden=8, heads=2),
        TransformConfig(side=64),
        DecodingConfig(),
        Vocabulary.build(["a dog runs"]),
        Style(),
    )


def test_a_whole_checkpoint_is_loaded(tmp_path: Path, captioner: Captioner) -> None:
    assert checkpoint.load(checkpoint.save(tmp_path / "whole", captioner), "cpu").vocabulary == captioner.vocabulary


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json"])
def test_json_nested_beyond_reading(tmp_path: Path, captioner: Captioner, name: str) -> None:
    folder = checkpoint.save(tmp_path / "deep", captioner)
    (folder / name).write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=rf"{name} is no JSON"):
        checkpoint.load(folder, "cpu")


@pytest.mark.parametrize("side", ["abc", [64], 10**400, 63.5])
def test_a_transform_that_cannot_be_computed(tmp_path: Path, captioner: Captioner, side: object) -> None:
    folder = checkpoint.save(tmp_path / "odd", captioner)
    (folder / checkpoint.SUMS).unlink()
    config = json.loads((folder / "config.json").read_text())
    config["transform"]["side"] = side
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.load(folder, "cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path: Path, captioner: Captioner, value: float) -> None:
    with torch.no_grad():
        captioner.decoder.decoders[0].bias[3] = value
    folder = checkpoint.save(tmp_path / "nan", captioner)
    with pytest.raises(CheckpointError, match=r"is damaged: Not all of its numbers are finite\."):
        checkpoint.load(folder, "cpu")
