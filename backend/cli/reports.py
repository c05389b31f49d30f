"""`captioner report`: what drafts are worth, as text, JSON or a page. `captioner doctor`: what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, setting, settings_from, store_of
from backend.domain.errors import SettingsError


@click.command(epilog=example("captioner report --project 3", "captioner report --project 3 --out report.html --names"))
@setting("data_dir", "database_url")
@click.option("--project", type=int, required=True, help="The number in the project's address.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with plots, replacing the file."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option("--names", is_flag=True, help="Name annotators by their numbers in Label Studio.")
def report(project: int, out: Path | None, as_json: bool, names: bool, **flags: Any) -> None:
    """Show what drafts are worth: what annotators accept and change, the time that it saves, what more would teach."""
    from backend.reports.economics.report import report as gather
    from backend.reports.economics.text import text

    found = gather(store_of(settings_from(flags)), project, names)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else text(found))
    if out is not None:
        from backend.reports.economics.page import save

        save(found, out)
        click.echo(f"The page is {out}.", err=True)


@click.command(epilog=example("captioner doctor", "captioner doctor --project 3 --json"))
@setting("data_dir", "database_url", "redis_url", "label_studio_url", "label_studio_api_key", "host", "port", "device")
@click.option("--project", type=int, help="Of the projects, check only this one [default: every connected project].")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def doctor(project: int | None, as_json: bool, **flags: Any) -> None:
    """Check everything that drafts and corrections need, and say what mends what is wrong.

    The exit status is 1 where something fails, and 0 where there are warnings only.
    """
    from backend.reports.doctor.diagnosis import examine, misconfigured, text

    try:
        found = examine(settings_from(flags), project)
    except SettingsError as error:
        found = misconfigured(error)
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else text(found))
    sys.exit(found.failed)
