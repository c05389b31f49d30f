"""The console command `captioner`. Each command imports only what it needs, because torch takes seconds."""

from __future__ import annotations

from typing import Any

import click

from backend.cli.corrections import export
from backend.cli.drafts import mode, preannotate, refresh
from backend.cli.projects import connect, reconcile, status
from backend.cli.reports import doctor, report
from backend.cli.retrains import train_cancel, train_status
from backend.cli.running import serve, up, worker
from backend.cli.selection import select
from backend.cli.versions import promote, quarantine, rollback, versions
from backend.domain.errors import CaptionerError
from backend.settings import loopback_without_proxy
from training.cli import commands as training_commands
from training.errors import TrainingError

COMMANDS: list[click.Command] = [
    *training_commands,
    *(up, serve, worker),
    *(mode, preannotate, refresh, select),
    *(connect, reconcile, status, doctor),
    *(train_status, train_cancel),
    *(versions, quarantine, promote, rollback),
    *(report, export),
]


class PlainErrors(click.Group):
    """Shows errors of this project as one line with a non-zero exit status, not as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (CaptionerError, TrainingError) as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=PlainErrors,
    commands=COMMANDS,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="label-studio-captioner")
def main() -> None:
    """Draft image captions in Label Studio, learn from every correction, and serve the models that pass the gate."""
    loopback_without_proxy()
