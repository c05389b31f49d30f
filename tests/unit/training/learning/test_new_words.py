"""A new word begins among the known words that it stands in the place of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.data.manifest import Row
from training.features.features import Inputs
from training.learning import new_words
from training.learning.train import train


@pytest.mark.slow
@pytest.mark.parametrize("ensemble", [1, 2])
def test_a_new_word_begins_near_the_words_it_replaces(
    coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path, ensemble: int
) -> None:
    config = replace(tiny_config, decoder=replace(tiny_config.decoder, ensemble=ensemble))
    captioner = checkpoint.load(train(coloured_rows, tmp_path / "out", config, cache_dir=tmp_path, device="cpu"), "cpu")
    known = len(captioner.vocabulary)
    crimson = [
        replace(row, references=("A crimson picture.", "Purple?")) if "red" in row.image.name else row
        for row in coloured_rows
    ]
    captioner.extend_vocabulary(captioner.vocabulary.extended(["crimson unseen purple"]))
    before = [one.embedding.weight.detach().clone() for one in captioner.decoder.decoders]
    new_words.place(captioner, known, crimson, Inputs(captioner, crimson, tmp_path))
    for decoder, old in zip(captioner.decoder.decoders, before, strict=True):
        words, vectors = captioner.vocabulary.words, decoder.embedding.weight.detach()
        likeness = torch.cosine_similarity(vectors[words.index("crimson")], vectors[:known], dim=1)
        assert words[int(likeness.argmax())] == "red"
        assert torch.equal(vectors[:known], old[:known])
        assert torch.equal(vectors[words.index("unseen")], old[words.index("unseen")]), "no caption has it"
        assert not torch.equal(vectors[words.index("purple")], old[words.index("purple")])
        assert decoder.bias[known:].isfinite().all()
        assert decoder.bias.requires_grad


def test_a_training_that_brings_no_new_word_leaves_all_as_it_is(tiny: Captioner, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    new_words.place(tiny, len(tiny.vocabulary), [], Inputs(tiny, [], tmp_path))
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
