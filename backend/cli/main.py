"""The console command `captioner`. Each command imports only what it needs, because torch takes seconds."""

from __future__ import annotations

import click

from backend.cli.completion import completion
from backend.cli.corrections import export
from backend.cli.drafts import mode, preannotate, refresh
from backend.cli.keeping import backup, forget, restore
from backend.cli.projects import connect, reconcile, status
from backend.cli.reports import doctor, report
from backend.cli.retrains import train_cancel, train_status
from backend.cli.running import serve, up, worker
from backend.cli.selection import select
from backend.cli.versions import promote, quarantine, rollback, versions
from backend.domain.errors import CaptionerError
from backend.settings import loopback_without_proxy
from training.cli import commands as training_commands
from training.commands.program import Program
from training.errors import TrainingError

SECTIONS: dict[str, list[click.Command]] = {
    "Start": [up, connect, doctor],
    "Follow a project": [status, report, export],
    "Prepare drafts": [mode, preannotate, refresh, select],
    "Choose what serves": [versions, promote, rollback, quarantine, train_status, train_cancel],
    "Train and measure, without Label Studio": training_commands,
    "Operate": [serve, worker, reconcile, backup, restore, forget, completion],
}


@click.group(
    cls=Program,
    sections=SECTIONS,
    errors=(CaptionerError, TrainingError),
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="label-studio-captioner")
def main() -> None:
    """Draft image captions in Label Studio, learn from every correction, and serve the models that pass the gate.

    `captioner COMMAND --help` shows options and an example.
    """
    loopback_without_proxy()
