"""`captioner connect`, `reconcile` and `status`: connect a Label Studio project, compare with it, report on it."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from backend.cli.options import example, label_studio_of, project_option, setting, settings_from, store_of
from backend.domain.errors import LabelStudioError
from training.commands.answers import answer, json_option, say


@click.command(
    epilog=example("captioner connect --label-studio-url http://localhost:8080 --project 3 --api-key $TOKEN")
)
@setting("data_dir", "label_studio_url", "label_studio_api_key")
@project_option()
@click.option("--backend-url", help="The ML backend's address as Label Studio reaches it [http://HOST:PORT].")
@click.option("--no-starter", is_flag=True, help="No drafts until a model has learned the project's captions.")
@json_option
def connect(project: int, backend_url: str | None, no_starter: bool, **flags: Any) -> None:
    """Connect a Label Studio project to a running ML backend.

    The captions that the project already has are read. A project that nothing drafts yet gets its drafts from the
    captioner of photographs that comes with this one.
    """
    from backend.corrections.reconcile import reconcile as compare
    from backend.label_studio.connect import connect as connect_project
    from backend.store.registry import Registry
    from backend.up.first_model import promote_bundled

    settings = settings_from(flags)
    client = label_studio_of(settings)
    connection = connect_project(client, project, backend_url or settings.backend_url, settings.basic_auth)
    for sentence in connection.report:
        say(sentence)
    store = store_of(settings, new=True)
    version = None if no_starter else promote_bundled(Registry(store), project, settings.data_dir)
    if version:
        say(f"{version}, which comes with the captioner, drafts until corrections have taught a better one.")
    found = compare(project, client, store)
    say(str(found))
    if connection.problems:
        raise LabelStudioError(" ".join(connection.problems))
    answer({"project": project, "done": list(connection.report), "starter": version, "compared": found.to_json()})


@click.command(epilog=example("captioner reconcile", "captioner reconcile --project 3"))
@setting("data_dir", "database_url", "label_studio_url", "label_studio_api_key")
@project_option("Only this project [default: every connected project].", required=False)
@json_option
def reconcile(project: int | None, **flags: Any) -> None:
    """Compare with Label Studio and record what no webhook reported."""
    from backend.corrections.reconcile import reconcile as compare
    from backend.reports.progress import NO_PROJECT

    settings = settings_from(flags)
    client = label_studio_of(settings)
    store = store_of(settings)
    projects = [each.id for each in store.projects()] if project is None else [project]
    if not projects:
        say(NO_PROJECT)
    compared = []
    for each in projects:
        found = compare(each, client, store)
        say(str(found))
        compared.append(found.to_json())
    answer({"projects": compared})


@click.command(epilog=example("captioner status", "captioner status --json"))
@setting("data_dir", "database_url", "redis_url")
@json_option
def status(**flags: Any) -> None:
    """Show what serves, what was learned, what runs and what failed."""
    from backend.reports.status import report, text

    settings = settings_from(flags)
    settings.check_data()
    status = report(settings)
    answer(status, partial(text, status))
