"""`captioner mode` and `refresh`: where a project's drafts come from, and making them anew."""

from __future__ import annotations

from typing import Any

import click

from backend.cli.options import example, label_studio_of, setting, settings_from, store_of


@click.command(epilog=example("captioner mode --project 3", "captioner mode --project 3 stored"))
@setting("data_dir")
@setting("database_url")
@setting("label_studio_url")
@setting("label_studio_api_key")
@click.option("--project", type=int, required=True, help="The number in the project's address.")
@click.argument("chosen", metavar="[live|stored]", type=click.Choice(["live", "stored"]), required=False)
def mode(project: int, chosen: str | None, **flags: Any) -> None:
    """Tell or choose where drafts come from: live, Label Studio asks for each task it opens; stored, every unlabelled
    task has one, as Uncertainty sampling needs."""
    from backend.drafts import modes

    settings = settings_from(flags)
    client, store = label_studio_of(settings), store_of(settings)
    if chosen == "live":
        modes.to_live(client, store, project)
        click.echo(f"Project {project} is live: Label Studio asks for the draft of each task it opens.")
    elif chosen == "stored":
        modes.to_stored(client, store, project)
        click.echo(
            f"A draft is being stored for every unlabelled task of project {project}; when all are there, Label Studio "
            f"is switched to them. `captioner status` tells how far that is."
        )
    else:
        state = modes.ask(client, store, project)
        waits = "; stored, once a draft is stored for every unlabelled task" if state.wanted else ""
        click.echo(f"Project {project} is {state.mode}{waits}.")


@click.command(epilog=example("captioner refresh --project 3", "captioner refresh --project 3 --stop"))
@setting("data_dir")
@setting("database_url")
@click.option("--project", type=int, required=True, help="The number in the project's address.")
@click.option("--stop", is_flag=True, help="Make no more drafts until this command goes on with it.")
def refresh(project: int, stop: bool, **flags: Any) -> None:
    """Have the drafts of unlabelled tasks made anew in the background; go on where that was stopped."""
    store = store_of(settings_from(flags))
    if store.get_project(project) is None:
        raise click.UsageError(f"No project {project} has been connected; `captioner status` lists those that have.")
    if stop:
        store.stop_refresh(project)
        click.echo(f"No more drafts are made for project {project} until `captioner refresh --project {project}`.")
    else:
        store.resume_refresh(project)
        click.echo(f"The drafts of project {project} are being made anew; `captioner status` tells how far that is.")
