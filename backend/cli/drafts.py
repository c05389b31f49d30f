"""`captioner mode` and `refresh`: where a project's drafts come from, and how to replace them."""

from __future__ import annotations

from typing import Any

import click

from backend.cli.options import example, label_studio_of, setting, settings_from, store_of


@click.command(epilog=example("captioner mode --project 3", "captioner mode --project 3 stored"))
@setting("data_dir", "database_url", "label_studio_url", "label_studio_api_key")
@click.option("--project", type=int, required=True, help="The number in the project's address.")
@click.argument("chosen", metavar="[live|stored]", type=click.Choice(["live", "stored"]), required=False)
def mode(project: int, chosen: str | None, **flags: Any) -> None:
    """Show or choose where drafts come from.

    live: Label Studio asks for the draft of each task that it opens. stored: Label Studio keeps a draft of every
    unlabelled task, which Uncertainty sampling needs.
    """
    from backend.drafts import modes

    settings = settings_from(flags)
    client, store = label_studio_of(settings), store_of(settings)
    if chosen == "live":
        modes.to_live(client, store, project)
        click.echo(f"Project {project} is live: Label Studio asks for the draft of each task it opens.")
    elif chosen == "stored":
        modes.to_stored(client, store, project)
        click.echo(
            f"A draft is being stored for every unlabelled task of project {project}. Then Label Studio is switched to "
            f"the stored drafts. `captioner status` shows the progress."
        )
    else:
        state = modes.ask(client, store, project)
        change = ", and becomes stored once every unlabelled task has a stored draft" if state.wanted else ""
        click.echo(f"Project {project} is {state.mode}{change}.")


@click.command(epilog=example("captioner refresh --project 3", "captioner refresh --project 3 --stop"))
@setting("data_dir", "database_url")
@click.option("--project", type=int, required=True, help="The number in the project's address.")
@click.option("--stop", is_flag=True, help="Stop until this command is called again without --stop.")
def refresh(project: int, stop: bool, **flags: Any) -> None:
    """Replace the drafts of unlabelled tasks in the background; continue where a refresh was stopped."""
    store = store_of(settings_from(flags))
    if store.get_project(project) is None:
        raise click.UsageError(f"Project {project} is not connected; `captioner status` lists the connected projects.")
    if stop:
        store.stop_refresh(project)
        click.echo(
            f"The refresh of project {project} is stopped; `captioner refresh --project {project}` continues it."
        )
    else:
        store.resume_refresh(project)
        click.echo(f"The drafts of project {project} are being replaced; `captioner status` shows the progress.")
