"""How far retrains are: what `captioner train-status` and GET /train-status tell, read from SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from backend.store.database import now
from backend.store.retrains import QUEUED, RUNNING, Retrain
from backend.store.store import Store

PHASES = {
    "compare": "comparing with Label Studio",
    "collect": "collecting corrections and images",
    "confirm": "judging the champion again",
    "mismatch": "checking that captions belong to their images",
    "replay": "captioning images to replay",
    "prepare": "reading images",
    "frozen": "training with the encoder frozen",
    "train": "training",
    "reward": "training on rewards",
    "index": "indexing images and captions for retrieval",
    "interpolate": "interpolating with the champion's weights",
    "evaluate": "evaluating champion and candidate",
    "register": "registering the version",
}
"""Phases of a retrain in their order; not every retrain goes through all."""
USUAL = ("collect", "train", "interpolate", "evaluate", "register")
"""Those that take time in most retrains."""
SAID = ("phase", "epoch", "epochs", "step", "steps", "loss", "images_at_once", "phase_seconds")


def report(store: Store, project_id: int | None = None) -> dict[str, Any]:
    """The active and the last ended retrain of the project, or of every project, as plain JSON values."""
    projects = [each.id for each in store.projects()] if project_id is None else [project_id]
    return {"projects": [_project(store.retrains(each, limit=2), each) for each in projects]}


def text(found: Mapping[str, Any]) -> str:
    """The report for people."""
    if not found["projects"]:
        return "No project has been connected yet: `captioner up` or `captioner connect`."
    return "\n".join(line for project in found["projects"] for line in _lines(project))


def _project(retrains: list[Retrain], project_id: int) -> dict[str, Any]:
    active = next((retrain for retrain in retrains if retrain.active), None)
    last = next((retrain for retrain in retrains if not retrain.active), None)
    return {"project": project_id, "active": active and _active(active), "last": last and _ended(last)}


def _active(retrain: Retrain) -> dict[str, Any]:
    """`heard_seconds_ago` is the age of what is said of the phase; `lost`: its process is taken to have died.

    `phase_left_seconds` and `phase_ends_at` are of this phase alone, reckoned from its steps so far; None before the
    first one. How long the phases `then` take nobody knows before they begin.
    """
    runs = retrain.state == RUNNING
    said = retrain.progress if runs else {}
    phase = said.get("phase")
    heard = _ago(retrain.heartbeat_at) if runs else None
    left = _left_seconds(said)
    if left is not None and heard is not None:
        left = max(0.0, left - heard)
    return {
        "retrain": retrain.snapshot,
        "state": retrain.state,
        **{name: said.get(name) for name in SAID},
        "phase_left_seconds": left,
        "phase_ends_at": None if left is None else _moment(now() + timedelta(seconds=left)),
        "then": _then(phase) if runs else [],
        "elapsed_seconds": _ago(retrain.started_at),
        "heard_seconds_ago": heard,
        "lost": retrain.stale(),
        "attempt": retrain.attempt,
        "deaths": retrain.deaths,
        "postponed": retrain.postponed,
        "reason": retrain.outcome,  # of one that is postponed
        "requested_at": _moment(retrain.requested_at),
        "started_at": _moment(retrain.started_at),
        "due_at": _moment(retrain.due_at),
    }


def _ended(retrain: Retrain) -> dict[str, Any]:
    seconds = None
    if retrain.started_at and retrain.ended_at:
        seconds = (retrain.ended_at - retrain.started_at).total_seconds()
    return {
        "retrain": retrain.snapshot,
        "state": retrain.state,
        "outcome": retrain.outcome,
        "version": retrain.version,
        "attempt": retrain.attempt,
        "ended_at": _moment(retrain.ended_at),
        "ended_seconds_ago": _ago(retrain.ended_at),
        "seconds": seconds,
    }


def _left_seconds(said: Mapping[str, Any]) -> float | None:
    """What is left of the phase when each of its steps takes as long as those so far; early stopping ends it sooner."""
    step, steps, seconds = said.get("step"), said.get("steps"), said.get("phase_seconds")
    if not step or not steps or seconds is None:
        return None
    done, total = step, steps
    if said.get("epoch"):
        done, total = (said["epoch"] - 1) * steps + step, said["epochs"] * steps
    return float(seconds * (total - done) / done)


def _then(phase: str | None) -> list[str]:
    order = list(PHASES)
    reached = order.index(phase) if phase in PHASES else -1
    return [name for name in USUAL if order.index(name) > reached and not (name == "train" and phase == "frozen")]


def _lines(project: Mapping[str, Any]) -> Iterable[str]:
    active, last = project["active"], project["last"]
    yield f"Project {project['project']}"
    if active is None:
        yield "  retrain      none is queued or running"
    elif active["state"] == QUEUED:
        yield f"  retrain      {active['retrain']} is queued: {_waiting(active)}"
    else:
        yield f"  retrain      {active['retrain']} runs: {_doing(active)}"
        yield f"  time         {_span(active['elapsed_seconds'])} since it was first begun; {_left(active)}"
    if active and active["images_at_once"]:
        yield f"  memory       suffices for {active['images_at_once']} images at once only: batches go in parts"
    if active and (active["attempt"] > 1 or active["deaths"] or active["postponed"]):
        yield (
            f"  attempts     {active['attempt']} so far; {active['deaths']} of their processes died, "
            f"{active['postponed']} were postponed"
        )
    if last:
        took = f", {_span(last['seconds'])} after it was begun" if last["seconds"] is not None else ""
        ago = "" if last["ended_seconds_ago"] is None else f" {_span(last['ended_seconds_ago'])} ago"
        yield f"  last         {last['retrain']}, {last['state']}{ago}{took}: {last['outcome']}"


def _waiting(active: Mapping[str, Any]) -> str:
    if active["reason"]:
        return f"it waits until {active['due_at']}: {active['reason']}"
    return f"it waits for a worker since {active['requested_at']}"


def _doing(active: Mapping[str, Any]) -> str:
    if active["lost"]:
        return f"nothing was heard of it for {_span(active['heard_seconds_ago'])}; the next worker begins it again"
    said = [PHASES.get(active["phase"], active["phase"] or "beginning")]
    if active["epoch"]:
        said.append(f"epoch {active['epoch']} of {active['epochs']}")
    if active["step"] is not None:
        said.append(f"step {active['step']} of {active['steps']}")
    if active["loss"] is not None:
        said.append(f"loss {active['loss']:.3f}")
    return ", ".join(said)


def _left(active: Mapping[str, Any]) -> str:
    follows = f"then {', '.join(active['then'])}, which take their own time" if active["then"] else "nothing follows"
    if active["phase_left_seconds"] is None or active["lost"]:
        return f"when this phase ends cannot be told yet; {follows}"
    return (
        f"this phase ends in about {_span(active['phase_left_seconds'])} by its steps so far "
        f"({active['phase_ends_at']}); {follows}"
    )


def _ago(moment: datetime | None) -> float | None:
    return None if moment is None else max((now() - moment).total_seconds(), 0.0)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float | None) -> str:
    seconds = seconds or 0.0
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
