"""`captioner up`, `serve` and `worker`: what keeps running."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, settings_from, settings_of
from backend.settings import Settings


@click.command(epilog=example("captioner up --images ~/photos --label-studio-port 8081"))
@settings_of("up")
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of photos to import (default: generated scenes)."
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Serve this captioner of yours from the start.")
@click.option("--label-studio-port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--scenes", default=100, show_default=True, help="Generated scenes imported when there are no photos.")
@click.option("--no-label-studio", is_flag=True, help="Backend, worker and Redis only; then `captioner connect`.")
def up(
    images: Path | None,
    checkpoint: Path | None,
    label_studio_port: int,
    scenes: int,
    no_label_studio: bool,
    **flags: Any,
) -> None:
    """Run the whole loop on this machine: Redis, worker, ML backend and Label Studio. Ctrl-C stops everything."""
    from backend.up.up import Up

    if no_label_studio and images:
        raise click.UsageError("--images needs the Label Studio that --no-label-studio leaves out.")
    up = Up(Settings.from_env(**flags), images, checkpoint, None if no_label_studio else label_studio_port, scenes)
    sys.exit(up.run())


@click.command(epilog=example("captioner serve --port 9090"))
@settings_of("serve")
def serve(**flags: Any) -> None:
    """Run the ML backend alone (gunicorn)."""
    from backend.web.server import serve as run

    run(settings_from(flags))


@click.command(epilog=example("captioner worker", "captioner worker --burst"))
@settings_of("worker")
@click.option("--burst", is_flag=True, help="Stop when the queue is empty.")
def worker(burst: bool, **flags: Any) -> None:
    """Run the RQ worker that retrains."""
    from backend.queue import Queue

    settings = settings_from(flags)
    queue = Queue(settings.redis_url)
    queue.ping()  # or RQ's own words would stand where one clear line should
    os.environ.update(settings.to_env())  # the work-horse reads its settings from the environment
    queue.work(burst=burst)
