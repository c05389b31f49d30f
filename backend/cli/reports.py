"""`captioner report`: what drafts are worth, as text, JSON or a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, setting, settings_from, store_of


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
