"""`captioner connect`, `reconcile` and `status`: connect a Label Studio project, compare with it, report on it."""

from __future__ import annotations

import json
from typing import Any

import click

from backend.cli.options import example, label_studio_of, setting, settings_from, store_of
from backend.domain.errors import LabelStudioError


@click.command(
    epilog=example("captioner connect --label-studio-url http://localhost:8080 --project 3 --api-key $TOKEN")
)
@setting("data_dir", "label_studio_url", "label_studio_api_key")
@click.option("--project", type=int, required=True, help="The number in the project's address.")
@click.option("--backend-url", help="The ML backend's address as Label Studio reaches it [http://HOST:PORT].")
@click.option("--no-starter", is_flag=True, help="No drafts until a model has learned the project's captions.")
def connect(project: int, backend_url: str | None, no_starter: bool, **flags: Any) -> None:
    """Connect a Label Studio project to a running ML backend and read the captions it already has.

    A project that nothing drafts yet gets its drafts from the captioner of photographs that comes with this one.
    """
    from backend.corrections.reconcile import reconcile as compare
    from backend.label_studio.connect import connect as connect_project
    from backend.store.registry import Registry
    from backend.up.first_model import promote_bundled

    settings = settings_from(flags)
    client = label_studio_of(settings)
    connection = connect_project(client, project, backend_url or settings.backend_url, settings.basic_auth)
    for sentence in connection.report:
        click.echo(sentence)
    store = store_of(settings, new=True)
    if not no_starter and (version := promote_bundled(Registry(store), project, settings.data_dir)):
        click.echo(f"{version}, which comes with the captioner, drafts until corrections have taught a better one.")
    click.echo(str(compare(project, client, store)))
    if connection.problems:
        raise LabelStudioError(" ".join(connection.problems))


@click.command(epilog=example("captioner reconcile", "captioner reconcile --project 3"))
@setting("data_dir", "database_url", "label_studio_url", "label_studio_api_key")
@click.option("--project", type=int, help="Only this project [default: every connected project].")
def reconcile(project: int | None, **flags: Any) -> None:
    """Compare every task with Label Studio and record the changes that no webhook reported."""
    from backend.corrections.reconcile import reconcile as compare
    from backend.reports.progress import NO_PROJECT

    settings = settings_from(flags)
    client = label_studio_of(settings)
    store = store_of(settings)
    projects = [each.id for each in store.projects()] if project is None else [project]
    if not projects:
        click.echo(NO_PROJECT)
    for each in projects:
        click.echo(str(compare(each, client, store)))


@click.command(epilog=example("captioner status", "captioner status --json"))
@setting("data_dir", "database_url", "redis_url")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def status(as_json: bool, **flags: Any) -> None:
    """Show which model serves, what has been learnt, which retrain runs, and the latest failures."""
    from backend.reports.status import report, text

    settings = settings_from(flags)
    settings.check_data()
    status = report(settings)
    click.echo(json.dumps(status, indent=2, default=str) if as_json else text(status))
