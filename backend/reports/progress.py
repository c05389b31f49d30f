"""The progress of retrains for `captioner train-status` and GET /train-status, read from SQL."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from backend.store.database import now
from backend.store.retrains import DONE, QUEUED, RUNNING, Retrain
from backend.store.store import Store
from training.runtime.console import counted

PHASES = {
    "compare": "comparing with Label Studio",
    "collect": "collecting corrections and images",
    "confirm": "judging the champion again",
    "mismatch": "checking that captions belong to their images",
    "prepare": "reading images",
    "frozen": "training with the encoder frozen",
    "train": "training",
    "reward": "training on rewards",
    "index": "indexing images and captions for retrieval",
    "interpolate": "interpolating with the champion's weights",
    "evaluate": "evaluating champion and candidate",
    "upload": "waiting for the store that versions are uploaded to",
    "register": "registering the version",
}
"""Phases of a retrain in order, and how they are shown; most retrains skip some."""
USUAL = ("collect", "train", "interpolate", "evaluate", "register")
"""Phases that take time in most retrains."""
NO_PROJECT = "No project is connected yet: run `captioner up` or `captioner connect`."

USUAL_OF = 3
"""Retrains, the last ones that succeeded, by whose median it is said how long one takes."""

FIELDS = ("phase", "epoch", "epochs", "step", "steps", "loss", "images_at_once", "phase_seconds")


def report(store: Store, project_id: int | None = None) -> dict[str, Any]:
    """The active and the last finished retrain of the project, or of every project, as JSON values."""
    projects = [each.id for each in store.projects()] if project_id is None else [project_id]
    return {"projects": [{"project": each, **latest(store.retrains(each))} for each in projects]}


def text(progress: Mapping[str, Any]) -> str:
    """The report as lines for people."""
    if not progress["projects"]:
        return NO_PROJECT
    return "\n".join(line for project in progress["projects"] for line in _lines(project))


def latest(retrains: Sequence[Retrain]) -> dict[str, Any]:
    """The active and the last finished one of a project's retrains, which are sorted from the newest.

    `usual_seconds` is how long the last ones took that succeeded, None where none did.
    """
    active = next((retrain for retrain in retrains if retrain.active), None)
    last = next((retrain for retrain in retrains if not retrain.active), None)
    took = [retrain.seconds for retrain in retrains if retrain.state == DONE and retrain.seconds is not None]
    usual = statistics.median(took[:USUAL_OF]) if took else None
    return {"active": active and _active(active, usual), "last": last and _ended(last), "usual_seconds": usual}


def _active(retrain: Retrain, usual_seconds: float | None) -> dict[str, Any]:
    """`heard_seconds_ago` is the age of the last heartbeat; a retrain is `lost` when its process seems to have died.

    `phase_left_seconds` and `phase_ends_at` are estimates for the current phase from its steps so far, None before its
    first step and where it takes longer. `then` are the phases that follow; how long they take is unknown before they
    start. `left_seconds` and `ends_at` are estimates for the whole, by how long the last retrains took; None where it
    takes longer than those.
    """
    runs = retrain.state == RUNNING
    progress = retrain.progress if runs else {}
    phase = progress.get("phase")
    heard = seconds_since(retrain.heartbeat_at) if runs else None
    left = _left_seconds(progress)
    if left is not None:
        left -= heard or 0.0
        left = left if left > 0 else None  # it takes longer, or does what no step counts
    elapsed = seconds_since(retrain.started_at)
    whole = None if usual_seconds is None or elapsed is None else usual_seconds - elapsed
    if whole is not None and left is not None:
        whole = max(whole, left)
    if not runs or (whole is not None and whole < 0):
        whole = None
    return {
        "retrain": retrain.snapshot,
        "state": retrain.state,
        **{name: progress.get(name) for name in FIELDS},
        "phase_left_seconds": left,
        "phase_ends_at": None if left is None else _time(now() + timedelta(seconds=left)),
        "then": _then(phase) if runs else [],
        "left_seconds": whole,
        "ends_at": None if whole is None else _time(now() + timedelta(seconds=whole)),
        "elapsed_seconds": elapsed,
        "heard_seconds_ago": heard,
        "lost": retrain.stale(),
        "attempt": retrain.attempt,
        "deaths": retrain.deaths,
        "postponed": retrain.postponed,
        "reason": retrain.outcome,  # why it is postponed
        "requested_at": _time(retrain.requested_at),
        "started_at": _time(retrain.started_at),
        "due_at": _time(retrain.due_at),
    }


def _ended(retrain: Retrain) -> dict[str, Any]:
    return {
        "retrain": retrain.snapshot,
        "state": retrain.state,
        "outcome": retrain.outcome,
        "version": retrain.version,
        "attempt": retrain.attempt,
        "ended_at": _time(retrain.ended_at),
        "ended_seconds_ago": seconds_since(retrain.ended_at),
        "seconds": retrain.seconds,
    }


def _left_seconds(progress: Mapping[str, Any]) -> float | None:
    """Time left in the phase if every step takes as long as those so far; early stopping may end it sooner."""
    step, steps, seconds = progress.get("step"), progress.get("steps"), progress.get("phase_seconds")
    if not step or not steps or seconds is None:
        return None
    done, total = step, steps
    if progress.get("epoch"):
        done, total = (progress["epoch"] - 1) * steps + step, progress["epochs"] * steps
    return float(seconds * (total - done) / done)


def _then(phase: str | None) -> list[str]:
    order = list(PHASES)
    reached = order.index(phase) if phase in PHASES else -1
    return [name for name in USUAL if order.index(name) > reached and not (name == "train" and phase == "frozen")]


def _lines(project: Mapping[str, Any]) -> Iterable[str]:
    yield f"Project {project['project']}"
    if project["active"] is None:
        yield "  retrain      none is queued or running"
    yield from retrain_lines(project)


def retrain_lines(project: Mapping[str, Any]) -> Iterable[str]:
    """What `latest` found, as lines for people; `captioner status` has the same."""
    active, last = project["active"], project["last"]
    if active is None:
        pass
    elif active["state"] == QUEUED and active["reason"]:
        yield f"  retrain      {active['retrain']} is queued: it waits until {active['due_at']}: {active['reason']}"
    elif active["state"] == QUEUED:
        since = active["requested_at"]
        yield f"  retrain      {active['retrain']} is queued: it has waited for a worker since {since}"
    elif active["lost"]:
        heard = duration(active["heard_seconds_ago"])
        yield f"  retrain      {active['retrain']} runs: no heartbeat for {heard}; the next worker starts it again"
    else:
        yield f"  retrain      {active['retrain']} runs: {phase_text(active)}"
        left = "the end of this phase cannot be estimated"
        if active["phase_left_seconds"] is not None:
            left = f"this phase ends in about {duration(active['phase_left_seconds'])} ({active['phase_ends_at']})"
        yield f"  time         started {duration(active['elapsed_seconds'])} ago; {left}"
        if active["left_seconds"] is not None:
            whole = f"all of it in about {duration(active['left_seconds'])} ({active['ends_at']})"
            yield f"               {whole}, as the last ones took {duration(project['usual_seconds'])}"
        if active["then"]:
            yield f"  next         {', '.join(PHASES[phase] for phase in active['then'])}"
    if active and active["images_at_once"]:
        yield f"  memory       fits only {counted(active['images_at_once'], 'image')} at once: batches are split"
    if active and (active["attempt"] > 1 or active["deaths"] or active["postponed"]):
        ended = f"{active['deaths']} died, {counted(active['postponed'], 'was', 'were')} postponed"
        yield f"  attempts     {active['attempt']} so far: {ended}"
    if last:
        took = f" after {duration(last['seconds'])}" if last["seconds"] is not None else ""
        ago = "" if last["ended_seconds_ago"] is None else f" {duration(last['ended_seconds_ago'])} ago"
        yield f"  last         {last['retrain']}, {last['state']}{ago}{took}: {last['outcome']}"


def phase_text(progress: Mapping[str, Any]) -> str:
    """What a running retrain does, from its last heartbeat."""
    parts = [PHASES.get(progress.get("phase", ""), progress.get("phase") or "starting")]
    if progress.get("epoch"):
        parts.append(f"epoch {progress['epoch']} of {progress['epochs']}")
    if progress.get("step") is not None:
        parts.append(f"step {progress['step']} of {progress['steps']}")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.3f}")
    return ", ".join(parts)


def seconds_since(moment: datetime | None) -> float | None:
    """Seconds from the moment until now, at least 0."""
    return None if moment is None else max((now() - moment).total_seconds(), 0.0)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float | None) -> str:
    """A time span with one unit, such as "90 min"."""
    seconds = seconds or 0.0
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
