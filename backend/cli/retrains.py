"""`captioner train-status` and `train-cancel`: the retrain that is queued or runs."""

from __future__ import annotations

import json
from typing import Any

import click

from backend.cli.options import example, setting, settings_from, store_of


@click.command("train-status", epilog=example("captioner train-status", "captioner train-status --project 3 --json"))
@setting("data_dir")
@setting("database_url")
@click.option("--project", type=int, help="Only this project [every one that is connected].")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def train_status(project: int | None, as_json: bool, **flags: Any) -> None:
    """How far retrains are: phase, epoch, step, loss, time taken and left; and how the last one ended.

    The time left is that of the present phase, reckoned from its steps so far.
    """
    from backend.reports.progress import report, text

    found = report(store_of(settings_from(flags)), project)
    click.echo(json.dumps(found, indent=2) if as_json else text(found))


@click.command("train-cancel", epilog=example("captioner train-cancel --project 3"))
@setting("data_dir")
@setting("database_url")
@setting("redis_url")
@click.option("--project", type=int, required=True, help="Whose retrain is to end.")
def train_cancel(project: int, **flags: Any) -> None:
    """End the queued or running retrain of a project. No version comes of it, and the champion stays.

    Its corrections are learnt by the next retrain: with Start Training, or after as many newer corrections as usual.
    """
    from backend.queue import Queue
    from backend.retraining.cancel import cancel, sentence

    settings = settings_from(flags)
    click.echo(sentence(project, cancel(store_of(settings), Queue(settings.redis_url), project)))
