"""What is selected to be labelled first, for `captioner status` and `captioner select`, read from SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backend.store.drafts.selections import CHOSEN, ENDED, GONE, SHOWN, WANTED
from backend.store.store import Store
from training.runtime.console import counted


def report(store: Store, project_id: int) -> dict[str, Any] | None:
    """The newest selection of the project as JSON values, None where there was none.

    `labelled` of its `tasks` are labelled or skipped. `sampled` of `listed` tasks have sampled captions, where its
    strategy needs them.
    """
    newest = next(iter(store.selections(project_id)[::-1]), None)
    if newest is None:
        return None
    progress, shortlist = store.selection_progress(newest), store.shortlist(newest) if newest.state == WANTED else {}
    return {
        **{
            name: getattr(newest, name) for name in ("number", "strategy", "count", "seed", "after_promotions", "state")
        },
        **{name: getattr(newest, name) for name in ("version", "reason")},
        **progress._asdict(),
        "labelled": progress.tasks - progress.waiting,
        "listed": len(shortlist),
        "sampled": sum(value is not None for value in shortlist.values()),
    }


def lines(selection: Mapping[str, Any] | None) -> Iterable[str]:
    """The report as lines for people."""
    if selection is None or (
        selection["state"] in {ENDED, GONE} and not selection["tasks"] and not selection["reason"]
    ):
        return
    state, controls = selection["state"], selection["controls"]
    drawn = f", {controls} of them at random" if controls and selection["strategy"] != "random" else ""
    tasks = f"{counted(selection['tasks'], 'task')} by {selection['strategy']}{drawn}"
    if selection["reason"]:
        text = f"nothing: {selection['reason']}"
    elif state == WANTED:
        sampled = (
            f" (captions sampled of {selection['sampled']} of {selection['listed']})" if selection["listed"] else ""
        )
        text = f"not yet: up to {counted(selection['count'], 'task')} by {selection['strategy']} are chosen{sampled}"
    elif state == CHOSEN:
        text = f"{tasks}, {selection['stored']} of them stored in Label Studio so far"
    else:
        text = f"{tasks}, {selection['labelled']} labelled" + ("" if state == SHOWN else "; served first no more")
    again = "; anew after each promotion" if selection["after_promotions"] else ""
    yield f"  selected     {text}{again}"
