"""`captioner report`: what drafts are worth, as text, JSON or a page. `captioner doctor`: what is wrong."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, project_option, setting, settings_from, store_of
from backend.domain.errors import SettingsError
from training.commands.answers import answer, json_option


@click.command(epilog=example("captioner report --project 3", "captioner report --project 3 --out report.html --names"))
@setting("data_dir", "database_url")
@project_option()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots, replacing the file."
)
@json_option
@click.option("--names", is_flag=True, help="Name annotators by their numbers in Label Studio.")
def report(project: int, out: Path | None, names: bool, **flags: Any) -> None:
    """Show what drafts are worth to annotators.

    What they accept and change, the time that it saves, and what more corrections would teach.
    """
    from backend.reports.economics.report import report as gather
    from backend.reports.economics.text import text

    found = gather(store_of(settings_from(flags)), project, names)
    if out is not None:
        from backend.reports.economics.page import save

        save(found, out)
    answer(found.to_json(), partial(text, found))
    if out is not None:
        click.echo(f"The page is {out}.", err=True)


@click.command(epilog=example("captioner doctor", "captioner doctor --project 3 --json"))
@setting("data_dir", "database_url", "redis_url", "label_studio_url", "label_studio_api_key", "host", "port", "device")
@project_option("Of the projects, check only this one [default: every connected project].", required=False)
@json_option
def doctor(project: int | None, **flags: Any) -> None:
    """Check everything, and say what mends what is wrong.

    It checks all that drafts and corrections need. The exit status is 1 where something fails, and 0 where there are
    warnings only.
    """
    from backend.reports.doctor.diagnosis import examine, misconfigured, text

    try:
        found = examine(settings_from(flags), project)
    except SettingsError as error:
        found = misconfigured(error)
    answer(found.to_json(), partial(text, found))
    sys.exit(found.failed)
