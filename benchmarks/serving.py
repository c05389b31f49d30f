"""What serving costs beside the model itself: `captioner serve` on loopback, asked as Label Studio asks it.

    python -m benchmarks.serving --data flickr8k [--weights resnet50.pth] [--out DIR] [--only starter] [--quick]

Serves the starter and, for comparison, ResNet-50 as the photographs preset has it: views of 448 and 256 pixels, two
decoders, the vocabulary of Flickr8k's captions. Nothing trained it, which would take hours, so its captions are held
to ten words, as many as trained ones have, and it has no images to rerank by. A process beside the server has the same
checkpoint loaded, and computes only while the server idles. Every task is new with a photo of its own, so that nothing
is cached, except where the same request is sent again. Where the server's time budget ends before all tasks are
drafted, drafts count, not tasks.

The request with thousands of tasks, with an annotator, a huge image and the memory beside it, is measured with the
starter alone. An annotator's task may come while a batch is computed, and waits for its end: half a second is taken
off, more than which a batch may not take on a CPU, or less where 32 images take less at the rate of the first row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from backend.domain.errors import CaptionerError
from backend.settings import loopback_without_proxy
from benchmarks.report import report
from benchmarks.server import images, serving
from benchmarks.serving_load import Client, Tasks
from benchmarks.serving_model import Beside, untrained
from benchmarks.serving_rows import QUICK, Rows, Size
from training.captioner.bundled import starter
from training.config import TrainingConfig
from training.data import datasets, manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.learning.train import RARE

STARTER, RESNET = "starter", "resnet50"  # what the keys begin with

MEANINGS = {
    "onnxruntime": "1 where the server encodes by onnxruntime, and so does what it is compared with",
    "http_over_encoder": "images a second of one large request over the encoder's alone (target: {http})",
    "http_images_a_second": "images a second of one large request",
    "encoder_images_a_second": "images a second of the encoder on normalised tensors in memory",
    "cores_used": "cores that the server used during the large request",
    "fetch_share": "of the server's CPU seconds during the large request: fetching, checking and storing images",
    "decode_share": "decoding and resizing",
    "encoder_share": "the encoder",
    "beam_search_share": "beam search",
    "rest_share": "everything else: HTTP, JSON, SQL, and that batches of fewer than 32 cost more an image",
    "cached_speedup": "the large request again over the first time{cached}",
    "changed_drafts": "drafts that differ when the request is sent again (target: 0)",
    "concurrent_over_batch": "as many tasks from clients at once with one each, over the large request (target: 0.85)",
    "concurrent_p50_ms": "ms, of these",
    "concurrent_p95_ms": "ms, of these",
    "concurrent_p99_ms": "ms, of these",
    "single_over_model": "one client, one task: median over encoder and beam search in process (target: 1.25)",
    "single_p50_ms": "ms, one client, one task{single}",
    "model_p50_ms": "ms, encoder and beam search in process",
    "same_captions_share": "of these drafts, those that the model in process gives",
    "interactive_p95_ratio": "an annotator beside a request of thousands, 95th percentile less a batch, over idle "
    "(target: 2)",
    "interactive_p95_ms": "ms, beside it",
    "interactive_idle_p95_ms": "ms, with nothing beside it",
    "interactive_batch_ms": "ms, taken off for the batch that is being computed",
    "interactive_requests": "tasks that the annotator opened beside it",
    "interactive_undrafted": "of these, without a draft (target: 0)",
    "large_answer_seconds": "s, until the request of thousands was answered (limit: 100)",
    "large_drafted_share": "of its tasks, drafted by then",
    "large_settled_seconds": "s, from then to the end of work in the background",
    "large_again_share": "of its tasks, drafted when it is sent again (target: 1)",
    "large_again_seconds": "s, of that",
    "huge_drafted": "1: the image of 100 megapixels got a draft",
    "rss_before_mib": "MiB, the web process after the rows above",
    "rss_peak_mib": "MiB, during the request of thousands and the huge image (limit: 1,024 more)",
    "rss_after_mib": "MiB, 10 s after all work (limit: 1.1 times before)",
    "load_average": "processes that wanted a core at the end (1 min)",
}
TARGETS = {
    STARTER: {"http": "0.5", "cached": "", "single": " (target with bfloat16: 100)"},
    RESNET: {"http": "0.75", "cached": " (target: 50)", "single": ""},
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), help="Of ResNet-50; without: random ones.")
@click.option("--out", type=click.Path(path_type=Path), help="An empty folder for the servers' data.")
@click.option("--only", type=click.Choice([STARTER, RESNET]), help="Measure one of the two.")
@click.option("--quick", is_flag=True, help="A smoke run: few tasks, a tiny captioner instead of ResNet-50.")
def main(data: Path, weights: Path | None, out: Path | None, only: str | None, quick: bool) -> None:
    loopback_without_proxy()
    figures: dict[str, float] = {}
    try:
        with ExitStack() as stack:
            folder = out or Path(stack.enter_context(TemporaryDirectory(prefix="captioner-serving-")))
            rows = datasets.read("flickr8k", data)
            for name in (STARTER, RESNET):
                if only in (None, name):
                    checkpoint = starter() if name == STARTER else _resnet(folder / RESNET, rows, weights, quick)
                    figures |= _serve(name, checkpoint, folder / f"data-{name}", rows, QUICK if quick else Size())
    except (CaptionerError, TrainingError) as error:
        raise click.ClickException(str(error)) from error
    figures["load_average"] = os.getloadavg()[0]
    meanings = {f"{name}_{key}": text.format_map(TARGETS[name]) for name in TARGETS for key, text in MEANINGS.items()}
    report("serving", figures, meanings | MEANINGS)


def _resnet(folder: Path, rows: Sequence[Row], weights: Path | None, quick: bool) -> Path:
    config = TrainingConfig.starter() if quick else TrainingConfig.photos("resnet50", str(weights or "imagenet"))
    if not weights:
        config = replace(config, encoder=replace(config.encoder, weights="none"))
    return untrained(folder, config, [row for row in rows if row.split == manifest.TRAIN], RARE)


def _serve(name: str, checkpoint: Path, folder: Path, rows: Sequence[Row], size: Size) -> dict[str, float]:
    """All figures of one captioner."""
    made = folder.with_name(f"{folder.name}-made")
    made.mkdir(parents=True)
    with ExitStack() as stack:
        ports = [stack.enter_context(images(where)) for where in (rows[0].image.parent, made)]
        hosts = [f"127.0.0.1:{port}" for port in ports]
        # every task is to be drafted
        environ = {"CAPTIONER_IMAGE_HOSTS": ",".join(hosts), "CAPTIONER_BLIND_SHARE": "0"}
        url, pid = stack.enter_context(serving(checkpoint, folder, environ))
        beside = stack.enter_context(Beside(checkpoint))
        photos = Tasks(f"http://{hosts[0]}", [row.image for row in rows])
        measured = Rows(name, Client(url), pid, beside, photos, size)
        measured.warm_up()
        measured.accelerate(folder)
        measured.throughput()
        if name == STARTER:
            measured.shares(made, environ["CAPTIONER_IMAGE_HOSTS"])
        measured.cached()
        measured.concurrent()
        measured.single()
        if name == STARTER:
            measured.thousands(made, f"http://{hosts[1]}")
        return measured.figures


if __name__ == "__main__":
    main()
