"""`captioner mode`, `preannotate` and `refresh`: where drafts come from, and how to make and replace them."""

from __future__ import annotations

import time
from typing import Any

import click

from backend.cli.options import example, label_studio_of, project_option, setting, settings_from, store_of
from backend.domain.errors import CaptionerError, QueueError
from backend.settings import Settings
from training.commands.answers import answer, json_option

POLL_SECONDS = 1.0


@click.command(epilog=example("captioner mode --project 3", "captioner mode --project 3 stored"))
@setting("data_dir", "database_url", "label_studio_url", "label_studio_api_key")
@project_option()
@click.argument("chosen", metavar="[live|stored]", type=click.Choice(["live", "stored"]), required=False)
@json_option
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
        sentence = f"Project {project} is live: Label Studio asks for the draft of each task it opens."
    elif chosen == "stored":
        modes.to_stored(client, store, project)
        sentence = (
            f"A draft is being stored for every unlabelled task of project {project}. Then Label Studio is switched to "
            f"the stored drafts. `captioner status` shows the progress."
        )
    else:
        state = modes.ask(client, store, project)
        change = ", and becomes stored once every unlabelled task has a stored draft" if state.wanted else ""
        sentence = f"Project {project} is {state.mode}{change}."
    _answer(store, project, sentence)


@click.command(epilog=example("captioner refresh --project 3", "captioner refresh --project 3 --stop"))
@setting("data_dir", "database_url")
@project_option()
@click.option("--stop", is_flag=True, help="Stop until this command is called again without --stop.")
@json_option
def refresh(project: int, stop: bool, **flags: Any) -> None:
    """Replace the drafts of unlabelled tasks in the background.

    A refresh that was stopped continues where it was.
    """
    store = store_of(settings_from(flags))
    check_connected(store, project)
    if stop:
        store.stop_refresh(project)
        sentence = f"The refresh of project {project} is stopped; `captioner refresh --project {project}` continues it."
    else:
        store.resume_refresh(project)
        sentence = f"The drafts of project {project} are being replaced; `captioner status` shows the progress."
    _answer(store, project, sentence)


@click.command(
    epilog=example(
        "captioner preannotate --project 3",
        "captioner preannotate --project 3 --stored --per-minute 600",
        "captioner preannotate --project 3 --stop",
    )
)
@setting("data_dir", "database_url", "redis_url", "label_studio_url", "label_studio_api_key")
@project_option()
@click.option("--stored", is_flag=True, help="Then have Label Studio show the stored drafts, as `captioner mode` does.")
@click.option("--per-minute", type=click.IntRange(1), help="Drafts a minute at most [default: as many as can be].")
@click.option("--stop", is_flag=True, help="Stop until this command is called again without --stop.")
@json_option
def preannotate(project: int, stored: bool, per_minute: int | None, stop: bool, **flags: Any) -> None:
    """Store a draft for every unlabelled task now.

    All workers make them, and Label Studio stores them. The progress is shown; Ctrl-C ends only the showing. Called
    again it continues where it was.
    """
    from backend.drafts import modes
    from backend.store.drafts.refreshes import EVERY, STORED

    settings = settings_from(flags)
    store = store_of(settings)
    check_connected(store, project)
    if stop:
        store.stop_refresh(project)
        _answer(
            store,
            project,
            f"The drafting of project {project} is stopped; `captioner preannotate --project {project}` continues it.",
        )
        return
    modes.preannotate(label_studio_of(settings), store, project, STORED if stored else EVERY, per_minute)
    queue(settings, store, project)
    try:
        sentence = _shown(store, project)
    except KeyboardInterrupt:
        sentence = (
            f"Project {project} is drafted in the background; `captioner status` shows the progress and "
            f"`captioner preannotate --project {project} --stop` stops it."
        )
    _answer(store, project, sentence)


def check_connected(store: Any, project: int) -> None:
    if store.get_project(project) is None:
        raise click.UsageError(f"Project {project} is not connected; `captioner status` lists the connected projects.")


def queue(settings: Settings, store: Any, project: int) -> None:
    """Let the workers begin at once, and say so where none can."""
    from backend.drafts.queueing import queue_refreshes
    from backend.queue import DRAFTS, Queue

    try:
        waiting = Queue(settings.redis_url)
        queue_refreshes(settings, store, waiting, project)
        if not waiting.workers(name=DRAFTS):
            click.echo("No worker runs: begin with `captioner up` or `captioner worker`.", err=True)
    except QueueError as error:
        click.echo(str(error), err=True)


def _answer(store: Any, project: int, sentence: str) -> None:
    """The sentence, or with --json how far the drafts are, as `drafting` in that of `captioner status`."""
    from backend.reports import drafting

    answer(drafting.report(store, project), sentence)


def _shown(store: Any, project: int) -> str:
    """Show the progress until every task is drafted; a sentence at the end.

    Raises CaptionerError where somebody stops it.
    """
    from backend.reports import drafting
    from backend.store.drafts.refreshes import DRAFTING, STORED
    from training.runtime.console import ProgressBar, counted

    failure = None
    with ProgressBar(f"Project {project}: drafted") as bar:
        while (now := drafting.report(store, project))["version"] is None or now["state"] == DRAFTING:
            if now["stopped"]:
                raise CaptionerError(
                    f"The drafting of project {project} was stopped; `captioner preannotate --project {project}` "
                    f"continues it."
                )
            if now["failure"] != failure:
                failure = now["failure"]
                if failure:
                    click.echo(f"{failure} It is tried again in a minute.", err=True)
            bar.show(now["checked"], now["total"], note=f"({drafting.pace(now)})")
            time.sleep(POLL_SECONDS)
    failed = f", {now['failed']} failed (`captioner status` says why)" if now["failed"] else ""
    shown = " Label Studio shows them." if now["mode"] == STORED else ""
    return (
        f"Project {project}: {counted(now['stored'], 'draft')} stored by {now['version']}{failed}; "
        f"{counted(now['checked'], 'unlabelled task')} checked.{shown}"
    )
