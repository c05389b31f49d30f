"""Speed of four layers as this project computes them, each measured beside the usual way in one process.

    python -m benchmarks.layers [--quick]

  encoding   grids of images: batch normalisation fused into the convolutions, or as layers of its own
  teaching   forward and backward pass of Show, Attend and Tell, which reads word by word: each step of its recurrent
             layer by a cell, or by the kernel for sequences
  drafting   beam search over one image by the default decoder, the same two ways
  drawing    captions sampled from the default decoder: each word by one random number, or by one for every word of the
             vocabulary
Weights, images and captions are random: speed does not depend on them. On CUDA every step is the kernel for sequences.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from unittest.mock import patch

import torch
from torch import nn

from benchmarks.report import report
from training.config import DecoderConfig, DecodingConfig, EncoderConfig
from training.decoding import sampling
from training.decoding.beam_search import beam_search
from training.networks import decoder as decoders
from training.networks.decoder import Decoder, recurrence
from training.networks.decoder.recurrence import Parts
from training.networks.encoder import Encoder
from training.runtime.device import autocast, choose
from training.vocabulary import END, PAD, START

WORDS, CELLS, CHANNELS = 2500, 100, 3072  # of Flickr8k, at 320 pixels, of two stages of ResNet-50
MEANINGS = {
    "encoding_ms": "of an image, batch normalisation fused",
    "encoding_speedup": "over layers of its own",
    "teaching_ms": "of a batch of 32 images with two captions, a cell's steps",
    "teaching_speedup": "over the kernel for sequences",
    "drafting_ms": "of an image, a cell's steps",
    "drafting_speedup": "over the kernel for sequences",
    "drawing_ms": "of a batch of 32 images with five captions, a random number a word that is said",
    "drawing_speedup": "over torch.multinomial",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    report("layers", _measure(parser.parse_args().quick), MEANINGS)


def _measure(quick: bool) -> dict[str, float]:
    device = choose()
    torch.manual_seed(1)
    images, side, turns = (1, 64, 1) if quick else (8, 320, 7)
    network = Encoder(EncoderConfig("resnet50", "none", feature_stages=2)).to(device).eval()
    pixels = torch.randn(images, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    taught = _decoder(DecoderConfig(architecture="show_attend_tell"), device).train()
    grids = torch.randn(32, CELLS, CHANNELS, device=device)
    words = torch.randint(PAD + 10, WORDS, (32, 2, 20), device=device)
    drafter = _decoder(DecoderConfig(), device).eval()
    learner = _decoder(DecoderConfig(), device).train()

    usual = patch.object(network, "_fused_backbone", lambda: network.backbone)
    sequence = patch.object(recurrence, "_step", _by_sequence)
    multinomial = patch.object(sampling, "sample_words", _by_multinomial)
    compared: dict[str, tuple[Callable[[], object], AbstractContextManager[object], int]] = {
        "encoding": (partial(_encode, network, pixels), usual, images),
        "teaching": (partial(_teach, taught, grids, words), sequence, 1),
        "drafting": (partial(_draft, drafter, grids[:1]), sequence, 1),
        "drawing": (partial(_draw, learner, grids), multinomial, 1),
    }
    figures: dict[str, float] = {}
    for name, (work, other, number) in compared.items():
        ours, theirs = [], []
        for _ in range(turns + 1):  # the first turn warms up
            ours.append(_seconds(work))
            with other:
                theirs.append(_seconds(work))
        figures |= _figures(name, ours[1:], theirs[1:], number)
    return figures


def _figures(name: str, ours: Sequence[float], theirs: Sequence[float], number: int) -> dict[str, float]:
    """From seconds of both, measured in turn: milliseconds of one of `number`, and times as fast pair by pair."""
    return {
        f"{name}_ms": 1000 * statistics.median(ours) / number,
        f"{name}_speedup": statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
    }


def _decoder(config: DecoderConfig, device: torch.device) -> Decoder:
    return decoders.build(config, WORDS, CHANNELS, CELLS).to(device)


def _by_sequence(recurrent: nn.RNNBase, inputs: torch.Tensor, parts: Parts) -> tuple[torch.Tensor, Parts]:
    outputs, (hidden, cell) = recurrent(inputs, parts)
    return outputs, (hidden, cell)


def _by_multinomial(chances: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    return torch.multinomial(chances, 1, generator=generator).squeeze(1)


def _encode(network: Encoder, pixels: torch.Tensor) -> None:
    with torch.inference_mode(), autocast(pixels.device):
        network(pixels)


def _teach(decoder: Decoder, grids: torch.Tensor, words: torch.Tensor) -> None:
    decoder.zero_grad(set_to_none=True)
    with autocast(grids.device):
        logits = decoder.logits(decoder(grids, words).states)  # (B, K, T, V)
    logits.float().logsumexp(dim=-1).mean().backward()


def _draft(decoder: Decoder, grid: torch.Tensor) -> None:
    with torch.inference_mode():
        beam_search(decoder, grid, DecodingConfig(), start=START, end=END, never=(PAD, START))


def _draw(decoder: Decoder, grids: torch.Tensor) -> None:
    with autocast(grids.device):
        sampling.sample_captions(decoder, grids, DecodingConfig(max_length=12), 5, (PAD, START))


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
