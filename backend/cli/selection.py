"""`captioner select`: which waiting tasks Label Studio gives annotators first."""

from __future__ import annotations

import time
from typing import Any

import click

from backend.cli.drafts import check_connected, queue
from backend.cli.options import example, label_studio_of, project_option, setting, settings_from, store_of
from backend.domain.errors import CaptionerError
from training.commands.answers import answer, json_option

POLL_SECONDS = 1.0
STRATEGIES = ("random", "least-confident", "margin", "disagreement", "k-center", "combined")
DEFAULT = "combined"
"""As in training.selection.strategies, whose NumPy takes long to import; a test compares them."""


@click.command(
    epilog=example(
        "captioner select --project 3 --count 100",
        "captioner select --project 3 --count 100 --strategy least-confident --after-promotions",
        "captioner select --project 3 --undo",
    )
)
@setting("data_dir", "database_url", "redis_url", "label_studio_url", "label_studio_api_key")
@project_option()
@click.option("--count", type=click.IntRange(1), help="How many tasks.")
@click.option("--strategy", type=click.Choice(STRATEGIES), default=DEFAULT, show_default=True)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of what is drawn at random."
)
@click.option("--after-promotions", is_flag=True, help="Select as many anew whenever another version serves.")
@click.option("--undo", is_flag=True, help="Have the tasks served in the order they had before.")
@json_option
def select(
    project: int, count: int | None, strategy: str, seed: int, after_promotions: bool, undo: bool, **flags: Any
) -> None:
    """Have the tasks labelled first whose captions teach most.

    Label Studio's label stream serves them first. This needs stored mode: in a live project a draft is stored for every
    unlabelled task before. Ctrl-C ends only the showing.
    """
    from backend.drafts.selection import ordering
    from backend.store.drafts.selections import Order

    settings = settings_from(flags)
    store = store_of(settings)
    check_connected(store, project)
    if undo:
        ordering.undo(label_studio_of(settings), store, project)
        done = f"Nothing is selected in project {project} any more: its tasks are served in the order of before."
        _answer(store, project, done)
        return
    if count is None:
        raise click.UsageError("Give --count, how many tasks are to be selected, or --undo.")
    client, order = label_studio_of(settings), Order(strategy, count, seed, after_promotions)
    ordered = ordering.order(client, store, project, order)
    queue(settings, store, project)
    try:
        done = _shown(store, project, ordered.number)
    except KeyboardInterrupt:
        done = (
            f"The tasks of project {project} are selected in the background; `captioner status` shows the progress and "
            f"`captioner select --project {project} --undo` ends it."
        )
    _answer(store, project, done)


def _answer(store: Any, project: int, sentence: str) -> None:
    """The sentence, or with --json the newest selection, as `selection` in that of `captioner status`."""
    from backend.reports import selection

    answer({"project": project, "selection": selection.report(store, project)}, sentence)


def _shown(store: Any, project: int, number: int) -> str:
    """Show the progress until Label Studio serves the selection; a sentence at the end.

    Raises CaptionerError where that will not be.
    """
    from backend.reports import drafting, selection
    from backend.store.drafts.refreshes import DRAFTING
    from backend.store.drafts.selections import CHOSEN, SHOWN, WANTED
    from training.runtime.console import ProgressBar, counted

    failure = None
    with ProgressBar() as bar:
        while (now := selection.report(store, project)) and now["number"] == number:
            if now["state"] not in {WANTED, CHOSEN}:
                break
            drafts = drafting.report(store, project)
            if drafts["stopped"]:
                raise CaptionerError(
                    f"The drafting of project {project} was stopped; `captioner refresh --project {project}` continues "
                    f"it, and the selection follows."
                )
            if drafts["failure"] != failure:
                failure = drafts["failure"]
                if failure:
                    click.echo(f"{failure} It is tried again in a minute.", err=True)
            if drafts["version"] is None or drafts["state"] == DRAFTING:
                bar.show(
                    drafts["checked"], drafts["total"], f"Project {project}: drafted", f"({drafting.pace(drafts)})"
                )
            elif now["state"] == WANTED:
                bar.show(now["sampled"], now["listed"], f"Project {project}: captions sampled")
            else:
                bar.show(now["stored"], now["tasks"], f"Project {project}: selected and stored")
            time.sleep(POLL_SECONDS)
    if not now or now["number"] != number or now["state"] != SHOWN:
        reason = now and now["number"] == number and now["reason"]
        raise CaptionerError(reason or f"The selection of project {project} was undone, or another one was ordered.")
    drawn = f", {now['controls']} of them drawn at random" if now["strategy"] != "random" else ""
    fewer = " No more wait that are no near duplicates of others." if now["tasks"] < now["count"] else ""
    return f"Project {project}: the label stream serves {counted(now['tasks'], 'task')} first{drawn}.{fewer}"
