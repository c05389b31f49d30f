"""How far the drafts of a project are, for `captioner status` and `captioner preannotate`, read from SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from backend.reports.progress import duration
from backend.store.drafts.refreshes import DONE, DRAFTING, EVERY, LIVE, STORED, TIDYING
from backend.store.store import Store
from training.runtime.console import counted

_MODES = {LIVE: "live: Label Studio asks for each task it opens", STORED: "stored in Label Studio"}
_WANTED = {STORED: "; stored mode begins when all are stored", EVERY: "; every unlabelled task gets a stored draft"}


def report(store: Store, project_id: int) -> dict[str, Any]:
    """The state of the refresh as JSON values.

    `workers` draft now. `rate` is how many tasks these check a second, and `left_seconds` what they take for the rest;
    both are None before the first batch.
    """
    state = store.refresh_state(project_id)
    workers = sum(chunk.is_claimed for chunk in store.chunks(project_id))
    rate = workers * state.checked / state.seconds if state.seconds and state.state == DRAFTING else 0.0
    return {
        **{name: str(value) if isinstance(value, datetime) else value for name, value in asdict(state).items()},
        "workers": workers,
        "rate": rate or None,
        "left_seconds": (state.total - state.checked) / rate if rate else None,
    }


def pace(drafting: Mapping[str, Any]) -> str:
    """ "38 a second, about 3 min left, 2 workers"."""
    parts = [counted(drafting["workers"], "worker") if drafting["workers"] else "no worker is at it"]
    if drafting["rate"]:
        left = f"about {duration(drafting['left_seconds'])} left"
        parts = [f"{drafting['rate']:.{0 if drafting['rate'] >= 10 else 1}f} a second", left, *parts]
    return ", ".join(parts)


def lines(drafting: Mapping[str, Any]) -> Iterable[str]:
    """The report as lines for people."""
    if drafting["version"] is None and drafting["wanted"] is None:
        return
    yield f"  drafts       {_MODES.get(drafting['mode'], '')}{_WANTED.get(drafting['wanted'], '')}"
    if drafting["version"] is None:
        yield "  refresh      not begun yet"
        return
    work = f"{counted(drafting['stored'], 'draft')} stored by {drafting['version']}"
    work += f", {drafting['failed']} failed" if drafting["failed"] else ""
    if drafting["state"] == DRAFTING:
        work = f"drafted {drafting['checked']:,} of {drafting['total']:,}, {pace(drafting)}; {work}"
    else:
        work += f", {counted(drafting['deleted'], 'old draft')} deleted"
        work += (
            f", {counted(drafting['being_edited'], 'task')} being edited left alone" if drafting["being_edited"] else ""
        )
        if drafting["state"] not in {DONE, TIDYING}:
            work += f"; the rest at {drafting['due_at']:.16}"
    stopped = "stopped (`captioner refresh` continues it): " if drafting["stopped"] else ""
    price = f"{counted(drafting['requests'], 'request')}, {drafting['seconds']:.1f} s"
    yield f"  refresh      {stopped}{work} ({price})"
    if drafting["failure"]:
        yield f"  not drafted  {drafting['failure']}"
