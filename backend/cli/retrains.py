"""`captioner train-status` and `train-cancel`: progress and end of the retrain that is queued or runs."""

from __future__ import annotations

import json
from typing import Any

import click

from backend.cli.options import example, setting, settings_from, store_of


@click.command("train-status", epilog=example("captioner train-status", "captioner train-status --project 3 --json"))
@setting("data_dir", "database_url")
@click.option("--project", type=int, help="Only this project [default: every connected project].")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def train_status(project: int | None, as_json: bool, **flags: Any) -> None:
    """Show the progress of retrains (phase, epoch, step, loss, time) and how the last one ended.

    The time left is an estimate for the current phase only, from its steps so far.
    """
    from backend.reports.progress import report, text

    progress = report(store_of(settings_from(flags)), project)
    click.echo(json.dumps(progress, indent=2) if as_json else text(progress))


@click.command("train-cancel", epilog=example("captioner train-cancel --project 3"))
@setting("data_dir", "database_url", "redis_url")
@click.option("--project", type=int, required=True, help="The project whose retrain is cancelled.")
def train_cancel(project: int, **flags: Any) -> None:
    """Cancel the queued or running retrain of a project. It makes no version, and the champion stays.

    The next retrain learns its corrections: after Start Training, or after the usual number of new corrections.
    """
    from backend.queue import Queue
    from backend.retraining.cancel import cancel, sentence

    settings = settings_from(flags)
    click.echo(sentence(project, cancel(store_of(settings), Queue(settings.redis_url), project)))
