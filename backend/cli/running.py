"""`captioner up`, `serve` and `worker`: the commands that keep running."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, settings_from, settings_of, store_of
from backend.settings import Settings

PORT_SECONDS = 1.0
"""How long the port of an earlier process may stay taken after it ended."""


@click.command(epilog=example("captioner up --images ~/photos --label-studio-port 8081"))
@settings_of("up")
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of photos to import [default: generated scenes]."
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Serve this captioner from the start.")
@click.option("--no-starter", is_flag=True, help="Photos get no drafts until a model has learned their captions.")
@click.option("--label-studio-port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--scenes", default=100, show_default=True, help="Number of generated scenes to import without --images.")
@click.option("--no-label-studio", is_flag=True, help="Backend, worker and Redis only; then `captioner connect`.")
def up(
    images: Path | None,
    checkpoint: Path | None,
    no_starter: bool,
    label_studio_port: int,
    scenes: int,
    no_label_studio: bool,
    **flags: Any,
) -> None:
    """Run everything on this machine, Label Studio included.

    That is Redis, the worker, the ML backend and Label Studio. Ctrl-C stops all of it.
    """
    from backend.system import in_use
    from backend.up.up import Up

    if no_label_studio and images:
        raise click.UsageError("--images needs a Label Studio: leave out --no-label-studio.")
    if no_starter and not images:
        raise click.UsageError("--no-starter is for photos: give --images, or leave it out.")
    port = None if no_label_studio else label_studio_port
    settings = Settings.from_env(**flags)
    in_use.hold(settings.data_dir)
    sys.exit(Up(settings, images, checkpoint, port, scenes, not no_starter).run())


@click.command(epilog=example("captioner serve --port 9090"))
@settings_of("serve")
def serve(**flags: Any) -> None:
    """Run the ML backend alone (gunicorn)."""
    from backend.system import device, in_use, ports
    from backend.web.server import serve as run

    settings = settings_from(flags)
    settings.check_access()
    ports.check(settings.port, settings.host, "--port", wait_seconds=PORT_SECONDS)
    device.check(settings.device)
    in_use.hold(settings.data_dir)
    store_of(
        settings, new=True
    ).close()  # the server's processes open it themselves; gunicorn would print their tracebacks
    run(settings)


@click.command(epilog=example("captioner worker", "captioner worker --burst"))
@settings_of("worker")
@click.option("--burst", is_flag=True, help="Stop when the queue is empty.")
@click.option(
    "--only",
    type=click.Choice(["retrain", "draft"]),
    help="Take jobs of this kind only [default: by the device: retrains are left to workers with a GPU].",
)
def worker(burst: bool, only: str | None, **flags: Any) -> None:
    """Run the worker alone, which retrains models."""
    from backend.queue import DRAFTS, RETRAINS, Queue
    from backend.system import device, in_use, logs

    settings = settings_from(flags)
    device.check(settings.device)
    in_use.hold(settings.data_dir)
    queue = Queue(settings.redis_url)
    queue.ping()  # fails with one clear line, where RQ would print a traceback
    os.environ.update(settings.to_env())  # the work-horse reads its settings from the environment
    logs.configure(settings.log_format, settings.secrets)
    queue.work(burst, device.is_gpu(settings.device), {"retrain": RETRAINS, "draft": DRAFTS}.get(only or ""))
