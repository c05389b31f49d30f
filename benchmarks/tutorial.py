"""The speed of the starter from files to captions, compared with the captioner that tutorials teach.

    python -m benchmarks.tutorial --data flickr8k [--quick]

Three ways from the same photos to captions by a beam of five, in turn, 32 photos each:
  starter        the captioner that comes with the project, in batches
  tutorial       ResNet-101 at 256 pixels and Show, Attend and Tell, a photo at a time in float32: batch normalisation
                 as layers of its own, features repeated for each beam, attention keys projected again for every word,
                 beams rebuilt in Python
  same_encoder   the same form with the starter's encoder, pixels and sizes
The starter encodes by onnxruntime where that is installed and clearly faster, as it does when it is served.
The tutorials' weights are random, and their captions as long as the starter's on average: words do not matter to speed.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import click
import numpy as np
import torch
from PIL import Image
from torch import nn

from benchmarks.report import report
from training.captioner import bundled, checkpoint
from training.captioner.captioner import Captioner
from training.data import datasets, manifest, transforms
from training.data.manifest import Row
from training.decoding.beam_search import Hypothesis
from training.errors import DataError, TrainingError
from training.networks.encoder import Encoder
from training.vocabulary import START

BEAM, SIDE, GRID, CHANNELS, ATTENTION = 5, 256, 14, 2048, 512  # the tutorials' sizes
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHUNK = 32
MEANINGS = {
    "photos": "photos captioned by each side",
    "words": "words a caption",
    "onnxruntime": "1 where the starter encodes by it",
    "starter": "images a second, from files",
    "tutorial": "images a second, the tutorials' form",
    "same_encoder": "images a second, the tutorials' form with the starter's encoder",
    "over_tutorial_form": "starter over tutorial (target: 10 on a CPU)",
    "same_encoder_over_tutorial_form": "starter over same_encoder (target: 3 on a CPU, 40 on a GPU)",
}


class TutorialDecoder(nn.Module):
    """Show, Attend and Tell with a beam search over one photo, as it is commonly taught."""

    def __init__(self, words: int, channels: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, embedding)
        self.keys, self.query = nn.Linear(channels, ATTENTION), nn.Linear(hidden, ATTENTION)
        self.score = nn.Linear(ATTENTION, 1)
        self.begin_hidden, self.begin_cell = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.gate = nn.Linear(hidden, channels)
        self.cell = nn.LSTMCell(embedding + channels, hidden)
        self.output = nn.Linear(hidden, words)

    def search(self, grid: torch.Tensor, length: int) -> list[int]:
        """The best caption of `length` words, for a grid (1, P, C)."""
        grid = grid.expand(BEAM, -1, -1)  # (K, P, C)
        last = torch.full((BEAM, 1), START, device=grid.device)
        captions, totals = last, torch.zeros(BEAM, 1, device=grid.device)
        mean = grid.mean(dim=1)
        hidden, cell = self.begin_hidden(mean), self.begin_cell(mean)
        for step in range(length + 1):  # the last is for the end
            relevance = self.score(torch.relu(self.keys(grid) + self.query(hidden)[:, None])).squeeze(2)  # (K, P)
            context = (grid * relevance.softmax(dim=1)[:, :, None]).sum(dim=1)  # (K, C)
            context = torch.sigmoid(self.gate(hidden)) * context
            hidden, cell = self.cell(torch.cat([self.embedding(last).squeeze(1), context], dim=1), (hidden, cell))
            scores = totals + self.output(hidden).log_softmax(dim=1)  # (K, V)
            best, chosen = (scores if step else scores[:1]).flatten().topk(BEAM)
            parents, words = chosen // scores.shape[1], chosen % scores.shape[1]
            captions = torch.cat([captions[parents], words[:, None]], dim=1)
            going = [number for number, word in enumerate(words.tolist()) if word >= 0]  # in tutorials: not the end
            captions, parents = captions[going], parents[going]
            hidden, cell, grid = hidden[parents], cell[parents], grid[parents]
            totals, last = best[going][:, None], words[going][:, None]
        return captions[int(totals.argmax())].tolist()[1:-1]


class Tutorial:
    """A captioner of the tutorials' form: an encoder, a decoder, and how a file becomes an image (1, 3, S, S)."""

    def __init__(
        self,
        encode: Callable[[torch.Tensor], torch.Tensor],
        decoder: TutorialDecoder,
        read: Callable[[Path], torch.Tensor],
        device: torch.device,
    ) -> None:
        self._encode, self._decoder, self._read = encode, decoder.to(device).eval(), read
        self._device = device

    @torch.no_grad()
    def caption(self, images: Sequence[Path], length: int) -> list[list[int]]:
        return [
            self._decoder.search(self._encode(self._read(image).to(self._device)).float(), length) for image in images
        ]


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--device", default="auto", show_default=True)
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, device: str, quick: bool) -> None:
    try:
        rows = datasets.read("flickr8k", data, split=manifest.DEV, limit=4 if quick else 256)
        captioner = checkpoint.load(bundled.starter(), device).warm_up()
        report("tutorial", _measure(captioner, rows), MEANINGS)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error


def _measure(captioner: Captioner, rows: Sequence[Row]) -> dict[str, float]:
    images = [row.image for row in rows]
    torch.manual_seed(1)
    length = _mean_length(captioner.caption(images[:CHUNK]))
    common, same = _common(captioner), _same_encoder(captioner)
    with TemporaryDirectory(prefix="captioner-tutorial-") as folder:
        captioner.accelerate(Path(folder))
    sides: dict[str, Callable[[Sequence[Path]], object]] = {
        "starter": captioner.caption,
        "tutorial": partial(common.caption, length=length),
        "same_encoder": partial(same.caption, length=length),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for run in sides.values():
        run(images[:1])  # warms up
    for first in range(0, len(images), CHUNK):
        for name, run in sides.items():
            begun = time.perf_counter()
            run(images[first : first + CHUNK])
            if captioner.device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begun)
    used = {"onnxruntime": float(captioner.encoder.is_accelerated)}
    return {"photos": len(images), "words": length} | used | _figures(times, len(images))


def _figures(times: Mapping[str, Sequence[float]], images: int) -> dict[str, float]:
    """Images a second, from the seconds of each chunk; the sides are compared chunk by chunk."""
    figures = {name: images / sum(seconds) for name, seconds in times.items()}
    for key, name in (("over_tutorial_form", "tutorial"), ("same_encoder_over_tutorial_form", "same_encoder")):
        figures[key] = statistics.median(b / a for a, b in zip(times["starter"], times[name], strict=True))
    return figures


def _mean_length(captions: Sequence[Hypothesis | DataError]) -> int:
    return round(statistics.mean(len(each.tokens) for each in captions if isinstance(each, Hypothesis)))


def _common(captioner: Captioner) -> Tutorial:
    import torchvision

    network = torchvision.models.resnet101(weights=None)
    layers = [*list(network.children())[:-2], nn.AdaptiveAvgPool2d(GRID)]  # without pooling and classifier
    encoder = nn.Sequential(*layers).to(captioner.device).eval()

    def read(path: Path) -> torch.Tensor:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        return _normalised(pixels, MEAN, STD)

    def encode(image: torch.Tensor) -> torch.Tensor:
        return encoder(image).flatten(2).transpose(1, 2)  # (1, P, C)

    decoder = TutorialDecoder(len(captioner.vocabulary), CHANNELS, embedding=512, hidden=512)
    return Tutorial(encode, decoder, read, captioner.device)


def _same_encoder(captioner: Captioner) -> Tutorial:
    encoder = unfused(captioner.encoder)
    sizes = captioner.decoder.config

    def read(path: Path) -> torch.Tensor:
        return _normalised(transforms.load(path, captioner.side), encoder.mean, encoder.std)

    def encode(image: torch.Tensor) -> torch.Tensor:
        with patch.object(encoder, "_fused_backbone", lambda: encoder.backbone):
            return encoder(image)

    decoder = TutorialDecoder(len(captioner.vocabulary), encoder.channels, sizes.embedding, sizes.hidden)
    return Tutorial(encode, decoder, read, captioner.device)


def unfused(encoder: Encoder) -> Encoder:
    """A copy whose weights lie as tutorials leave them, channels first."""
    return copy.deepcopy(encoder).to(memory_format=torch.contiguous_format).eval()


def _normalised(pixels: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Bytes (S, S, 3) as an image (1, 3, S, S)."""
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255)
    return ((image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]).contiguous()[None]


if __name__ == "__main__":
    main()
