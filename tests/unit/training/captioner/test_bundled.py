"""The starter as it comes with the project, whichever weights it has."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from training.captioner import bundled, checkpoint

PHOTOS = sorted((Path(__file__).parents[3] / "assets" / "checkpoints").glob("*.jpg"))


def test_the_starter_is_small_and_keeps_nothing_of_single_images() -> None:
    folder = bundled.starter()
    names = {"model.safetensors", "config.json", "vocabulary.json", "SHA256SUMS", "MODEL_CARD.md"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "model.safetensors").stat().st_size <= 40_000_000
    held = load_file(folder / "model.safetensors").values()
    assert {value.dtype for value in held if value.is_floating_point()} == {torch.float16}
    captioner = checkpoint.load(folder, "cpu")
    assert (captioner.retrieval, captioner.decoding.neighbours) == (None, 0)
    assert "non-commercial" in (folder / "MODEL_CARD.md").read_text()


def test_the_starter_says_a_sentence() -> None:
    for caption in checkpoint.load(bundled.starter(), "cpu").caption(PHOTOS):
        assert caption.text[0].isupper()
        assert caption.text.endswith(".")
        assert 3 <= len(caption.text.split()) <= 20
