"""Whether the starter, as it is served, gives the captions that a plain implementation of its networks gives.

    python -m benchmarks.fidelity --data flickr8k [--quick]

The plain implementation shares weights and pixels with the served captioner, but no code: one development photo at a
time in float32, the encoder's layers as they were trained, and a beam search over lists that goes on to the end. In
bfloat16 the served encoder is forced to compute in it, however slowly this processor does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.report import report
from benchmarks.tutorial import unfused
from training import metrics
from training.captioner import bundled, checkpoint
from training.captioner.captioner import Captioner
from training.config import DecodingConfig
from training.data import datasets, manifest
from training.decoding.beam_search import Hypothesis
from training.errors import TrainingError
from training.networks.encoder import Encoder
from training.vocabulary import END, PAD, START, UNKNOWN

PRECISIONS = {"float32": False, "bfloat16": True}
MEANINGS = {
    "photos": "development photos",
    "plain_bleu4": "of the plain implementation",
    "float32_equal_share": "of the served captions in float32, the same as plain ones (target: 0.99)",
    "float32_bleu4_difference": "of the served captions in float32 (limit: 0.1)",
    "bfloat16_equal_share": "the same in bfloat16",
    "bfloat16_bleu4_difference": "the same in bfloat16 (limit: 0.3)",
}
Beam = tuple[float, list[int], tuple[torch.Tensor, ...]]
"""Log probability, words, and the states of both layers."""


class PlainDecoder:
    """The decoder with two LSTM layers and attention between them, from its weights alone, a caption at a time."""

    def __init__(self, weights: Mapping[str, torch.Tensor], heads: int) -> None:
        self._weights, self._heads = weights, heads

    def search(self, grid: torch.Tensor, config: DecodingConfig) -> list[int]:
        """The best caption of a grid (P, C)."""
        cells = self._cells(grid)  # (P, H)
        keys, values = self._linear("attention.key_value", cells).chunk(2, dim=1)
        pooled = torch.cat([cells.mean(dim=0), cells.amax(dim=0)])
        begin = torch.tanh(self._linear("begin", pooled)).chunk(4)
        beams: list[Beam] = [(0.0, [], begin)]
        ended: list[tuple[float, list[int]]] = []
        for length in range(config.max_length + 1):
            extended: list[Beam] = []
            for log, words, states in beams:
                logs, after = self._step(words[-1] if words else START, states, keys, values)
                if words:
                    ended.append(((log + float(logs[END])) / (length + 1) ** config.length_penalty, words))
                logs[[PAD, START, UNKNOWN, END]] = -torch.inf
                best = logs.topk(config.beam)
                pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
                extended += [(log + own, [*words, word], after) for own, word in pairs]
            beams = sorted(extended, key=lambda beam: -beam[0])[: config.beam]
        return max(ended, key=lambda caption: caption[0])[1]

    def _cells(self, grid: torch.Tensor) -> torch.Tensor:
        standard = (grid - self._weights["standardisation.mean"]) / self._weights["standardisation.spread"]
        projected = self._linear("grid.0", standard)
        normal = F.layer_norm(
            projected, projected.shape[-1:], self._weights["grid.1.weight"], self._weights["grid.1.bias"]
        )
        return torch.relu(normal + self._weights["positional_embedding"])

    def _step(
        self, word: int, states: tuple[torch.Tensor, ...], keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Log probabilities (V,) of the next word, and the states after this one."""
        hidden, cell = self._lstm("first", self._weights["embedding.weight"][word], *states[:2])
        context = self._attend(self._linear("attention.query", hidden), keys, values)
        second, second_cell = self._lstm("second", torch.cat([hidden, context]), *states[2:])
        vector = self._linear("word", torch.cat([second, context]))
        logits = self._weights["embedding.weight"] @ vector + self._weights["bias"]
        return logits.log_softmax(dim=0), (hidden, cell, second, second_cell)

    def _attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        size = len(query) // self._heads
        contexts = []
        for own, key, value in zip(query.split(size), keys.split(size, dim=1), values.split(size, dim=1), strict=True):
            contexts.append((key @ own / size**0.5).softmax(dim=0) @ value)
        return torch.cat(contexts)

    def _lstm(
        self, name: str, inputs: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weights = self._weights
        gates = weights[f"{name}.weight_ih_l0"] @ inputs + weights[f"{name}.bias_ih_l0"]
        gates = gates + weights[f"{name}.weight_hh_l0"] @ hidden + weights[f"{name}.bias_hh_l0"]
        entry, forget, candidate, out = gates.chunk(4)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(candidate)
        return torch.sigmoid(out) * torch.tanh(cell), cell

    def _linear(self, name: str, values: torch.Tensor) -> torch.Tensor:
        return F.linear(values, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, quick: bool) -> None:
    try:
        rows = datasets.read("flickr8k", data, split=manifest.DEV, limit=4 if quick else 500)
        captioner = checkpoint.load(bundled.starter(), "cpu")
        pixels = [captioner.read(row.image) for row in rows]
        figures = measured(captioner, pixels, [row.references for row in rows])
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    report("fidelity", figures, MEANINGS)


def measured(
    captioner: Captioner, pixels: Sequence[np.ndarray], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """How the served captions of images (S, S, 3) differ from the plain ones."""
    expected = plain(captioner, pixels)
    bleu = metrics.bleu([each.text for each in expected], references).value
    figures = {"photos": float(len(pixels)), "plain_bleu4": bleu}
    for name, in_bfloat16 in PRECISIONS.items():
        with patch("training.runtime.device.has_bfloat16", return_value=in_bfloat16):
            found = captioner.caption_pixels(pixels)
        equal = [one.tokens == other.tokens for one, other in zip(found, expected, strict=True)]
        figures[f"{name}_equal_share"] = sum(equal) / len(equal)
        difference = metrics.bleu([each.text for each in found], references).value - bleu
        figures[f"{name}_bleu4_difference"] = difference
    return figures


@torch.inference_mode()
def plain(captioner: Captioner, pixels: Sequence[np.ndarray]) -> list[Hypothesis]:
    """The captions of images (S, S, 3) by the plain implementation, without scores."""
    config = captioner.decoder.config
    assert (config.architecture, config.cell, config.ensemble) == ("two_layer_attention", "lstm", 1)
    assert list(captioner.encoder.config.views) == [(1.0, False)]
    encoder = unfused(captioner.encoder)
    decoder = PlainDecoder(captioner.decoder.state_dict(), config.heads)
    captions = [decoder.search(_grid(encoder, image), captioner.decoding) for image in pixels]
    texts = [captioner.style.apply(captioner.vocabulary.decode(words)) for words in captions]
    return [Hypothesis(text, 1.0, tuple(words)) for text, words in zip(texts, captions, strict=True)]


def _grid(encoder: Encoder, pixels: np.ndarray) -> torch.Tensor:
    """The grid (P, C) of an image: the maps of its stages, each cell with mean 0 and variance 1, side by side."""
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(each)[:, None, None] for each in (encoder.mean, encoder.std))
    maps = list(encoder.backbone(((image - mean) / std)[None].contiguous()).values())
    if len(maps) == 1:
        return maps[0][0].flatten(1).T
    smallest = nn.AdaptiveAvgPool2d(maps[-1].shape[-1])
    cells = [smallest(each)[0].flatten(1).T for each in maps]  # each (P, C)
    return torch.cat([F.layer_norm(each, each.shape[-1:]) for each in cells], dim=1)


if __name__ == "__main__":
    main()
