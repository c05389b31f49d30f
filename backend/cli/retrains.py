"""`captioner train-status` and `train-cancel`: progress and end of the retrain that is queued or runs."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from backend.cli.options import example, project_option, setting, settings_from, store_of
from training.commands.answers import answer, json_option


@click.command("train-status", epilog=example("captioner train-status", "captioner train-status --project 3 --json"))
@setting("data_dir", "database_url")
@project_option("Only this project [default: every connected project].", required=False)
@json_option
def train_status(project: int | None, **flags: Any) -> None:
    """Show the progress of retrains, and how the last one ended.

    Its phase, epoch, step, loss and time. The time left is an estimate: of the current phase by its steps so far, of
    the whole retrain by how long the last ones took.
    """
    from backend.reports.progress import report, text

    progress = report(store_of(settings_from(flags)), project)
    answer(progress, partial(text, progress))


@click.command("train-cancel", epilog=example("captioner train-cancel --project 3"))
@setting("data_dir", "database_url", "redis_url")
@project_option("The project whose retrain is cancelled.")
@json_option
def train_cancel(project: int, **flags: Any) -> None:
    """Cancel the queued or running retrain of a project.

    It makes no version, and the champion stays. The next retrain learns its corrections: after Start Training, or after
    the usual number of new corrections.
    """
    from backend.queue import Queue
    from backend.retraining.cancel import cancel, sentence

    settings = settings_from(flags)
    retrain = cancel(store_of(settings), Queue(settings.redis_url), project)
    answer({"project": project, "cancelled": retrain and retrain.snapshot}, sentence(project, retrain))
