"""What `captioner status` and `captioner versions` tell: read from SQL, the queue and the running ML backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import requests

from backend.domain.errors import QueueError
from backend.queue import Queue
from backend.settings import Settings
from backend.store.database import now
from backend.store.reconciliations import ReconciliationState
from backend.store.refreshes import DONE, DRAFTING, LIVE, STORED, TIDYING, RefreshState
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.retrains import Retrain
from backend.store.store import Store
from training.runtime.console import table

UNTRAINED = "none yet"


def report(settings: Settings) -> dict[str, Any]:
    """Everything as plain JSON values; a part that cannot be reached is described, not fatal."""
    store = Store(settings.database_url)
    store.migrate()
    registry = Registry(store)
    memory = serving(settings)
    champions = registry.champions()
    return {
        "backend": {"url": settings.backend_url, "up": memory is not None},
        "queue": _queue(settings),
        "default_champion": champions.get(DEFAULT),
        "projects": [_project(settings, store, registry, memory, each.id) for each in store.projects()],
        "versions": [_version(version, champions) for version in reversed(registry.versions())],
    }


def text(found: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [
        f"ML backend   {found['backend']['url']} {'serves' if found['backend']['up'] else 'does not answer'}",
        f"Queue        {found['queue']}",
    ]
    if found["default_champion"]:
        lines.append(f"Default      {found['default_champion']} serves projects without a champion of their own")
    if not found["projects"]:
        lines.append("No project has been connected yet: `captioner up` or `captioner connect`.")
    for project in found["projects"]:
        lines += ["", *_project_lines(project)]
    if found["versions"]:
        lines += ["", _table(found["versions"])]
    return "\n".join(lines)


def versions_text(settings: Settings, project_id: int | None) -> str:
    store = Store(settings.database_url)
    store.migrate()
    registry = Registry(store)
    champions = registry.champions()
    rows = [_version(version, champions) for version in reversed(registry.versions(project_id))]
    return _table(rows) if rows else "There are no model versions yet."


def _project(
    settings: Settings,
    store: Store,
    registry: Registry,
    memory: Mapping[str, Mapping[str, str]] | None,
    project_id: int,
) -> dict[str, Any]:
    counts = store.counts(project_id)
    champion = registry.champion(project_id)
    retrains = store.retrains(project_id, limit=50)
    mine, default = str(project_id), str(DEFAULT)
    served = memory and (memory["serving"].get(mine) or memory["serving"].get(default))
    return {
        "id": project_id,
        "champion": champion.name if champion else None,
        "serving": served,
        "refused": memory and memory["refused"].get(mine),
        **asdict(counts),
        "retrain_in": max(settings.retrain_every - counts.untried, 0),
        "retrains": [_retrain(retrain) for retrain in retrains],
        "compared": _compared(store.reconciliation_state(project_id)),
        "drafting": _drafting(store.refresh_state(project_id)),
        "last_failures": [{"task": f.task_id, "reason": f.reason} for f in store.failures(project_id, limit=5)],
    }


def _project_lines(project: Mapping[str, Any]) -> Iterable[str]:
    yield f"Project {project['id']}"
    champion = project["champion"] or UNTRAINED
    swapping = project["serving"] not in {None, project["champion"]}
    yield f"  champion     {champion}" + (f" (being loaded; {project['serving']} still serves)" if swapping else "")
    if project["refused"]:
        yield f"  not served   {project['refused']}"
    yield f"  tasks        {project['tasks']} known, {project['drafts']} drafts served"
    yield (
        f"  corrections  {project['corrections']} usable ({project['kept']} drafts kept as they were), "
        f"{project['skipped']} skipped or empty"
    )
    active = next((r for r in project["retrains"] if r["state"] in {"queued", "running"}), None)
    last = next((r for r in project["retrains"] if r["state"] not in {"queued", "running"}), None)
    goal = "the first model" if project["champion"] is None else "the next retrain"
    if active:
        yield f"  retrain      {active['state']}: {_progress(active)}"
    else:
        ask = ", or Start Training in Label Studio's settings" if project["new"] else ""
        yield f"  retrain      {project['retrain_in']} more corrections until {goal}{ask} ({project['new']} are new)"
    if last:
        yield f"  last retrain {last['state']}: {last['outcome']}"
    yield from _compared_lines(project["compared"])
    yield from _drafting_lines(project["drafting"])
    if project["failures"]:
        yield f"  no draft     {project['failures']} tasks, lately:"
        for failure in project["last_failures"]:
            yield f"               task {failure['task']}: {failure['reason']}"


def _compared(state: ReconciliationState) -> dict[str, Any]:
    """How long ago the project was compared with Label Studio, in seconds, None where never; and what that mended."""

    def ago(moment: datetime | None) -> float | None:
        return None if moment is None else max((now() - moment).total_seconds(), 0.0)

    return {
        "lag_seconds": ago(state.completed_at),
        "seconds_ago": ago(state.compared_at),
        "tasks": state.completed_tasks,
        "requests": state.completed_requests,
        "seconds": state.completed_seconds,
        "repairs": state.repairs,
        "repaired": state.repaired,
        "failure": state.failure,
    }


def _compared_lines(compared: Mapping[str, Any]) -> Iterable[str]:
    if compared["lag_seconds"] is None:
        yield "  compared     never with Label Studio: `captioner reconcile`, or set LABEL_STUDIO_API_KEY"
    else:
        yield (
            f"  compared     with Label Studio {_ago(compared['lag_seconds'])} ago ({compared['tasks']} tasks, "
            f"{compared['requests']} requests, {compared['seconds']:.1f} s), by what changed "
            f"{_ago(compared['seconds_ago'])} ago; {compared['repaired']} missed changes taken in so far"
        )
    if compared["failure"]:
        yield f"  not compared {compared['failure']}"


def _drafting(state: RefreshState) -> dict[str, Any]:
    """Where drafts come from, and how far those of tasks nobody has labelled are the champion's."""
    times = ("begun_at", "due_at")
    names = ("mode", "wanted", "version", "state", "stopped", "checked", "total", "stored", "failed", "deleted")
    found = {name: getattr(state, name) for name in (*names, "being_edited", "requests", "seconds", "failure")}
    return found | {name: str(getattr(state, name)) if getattr(state, name) else None for name in times}


_MODES = {LIVE: "Label Studio asks for them live", STORED: "Label Studio shows stored ones"}


def _drafting_lines(drafting: Mapping[str, Any]) -> Iterable[str]:
    if drafting["version"] is None and drafting["wanted"] is None:
        return
    mode = _MODES.get(drafting["mode"], "")
    wanted = ", and shows stored ones once they are all there" if drafting["wanted"] == STORED else ""
    yield f"  drafts       {mode}{wanted}"
    work = f"{drafting['stored']} stored anew by {drafting['version']}"
    work += f", {drafting['failed']} could not be drafted" if drafting["failed"] else ""
    if drafting["state"] == DRAFTING:
        work = f"{drafting['checked']} of {drafting['total']} tasks checked, {work}"
    else:
        work += f", {drafting['deleted']} old ones deleted"
        work += f", {drafting['being_edited']} tasks left to who is at them" if drafting["being_edited"] else ""
        if drafting["state"] not in {DONE, TIDYING}:
            work += f"; old ones are deleted at {drafting['due_at']:.16}"
    stopped = "stopped (`captioner refresh` goes on): " if drafting["stopped"] else ""
    yield f"  refresh      {stopped}{work} ({drafting['requests']} requests, {drafting['seconds']:.1f} s)"
    if drafting["failure"]:
        yield f"  not drafted  {drafting['failure']}"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _progress(retrain: Mapping[str, Any]) -> str:
    said = retrain["progress"]
    if retrain["state"] == "queued" and retrain["outcome"]:
        return f"waits until {retrain['due_at']:.16}: {retrain['outcome']}"
    if not said:
        return f"asked for at {retrain['requested_at']:.16}"
    shown = {key: round(value, 3) if isinstance(value, float) else value for key, value in said.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items() if value is not None)


def _retrain(retrain: Retrain) -> dict[str, Any]:
    names = ("id", "snapshot", "state", "outcome", "version", "attempt", "progress")
    times = ("requested_at", "started_at", "ended_at", "due_at")
    found = {name: getattr(retrain, name) for name in names}
    if retrain.started_at and retrain.ended_at:
        found["seconds"] = (retrain.ended_at - retrain.started_at).total_seconds()
    return found | {name: str(getattr(retrain, name)) if getattr(retrain, name) else None for name in times}


def _version(version: ModelVersion, champions: Mapping[int, str]) -> dict[str, Any]:
    return {
        "name": version.name,
        "project": version.project_id,
        "parent": version.parent,
        "state": version.state,
        "verdict": version.verdict,
        "champion_of": sorted(project for project, name in champions.items() if name == version.name),
        "created_at": str(version.created_at),
    }


def _table(versions: Sequence[Mapping[str, Any]]) -> str:
    rows = [("version", "parent", "made", "BLEU-4", "champion's", "pairs", "verdict", "serves")]
    for version in versions:
        verdict = version["verdict"] or {}
        serves = ("project " + str(each) if each else "by default" for each in version["champion_of"])
        rows.append(
            (
                version["name"],
                version["parent"] or "-",
                version["created_at"][:16],
                _score(verdict.get("candidate_score")),
                _score(verdict.get("champion_score")),
                str(verdict.get("pairs", "-")),
                _decision(verdict),
                ", ".join(serves) or "-",
            )
        )
    return table(rows, "<<<>>><<")


def _score(score: Mapping[str, Any] | None) -> str:
    return f"{score['value']:.1f}" if score else "-"


def _decision(verdict: Mapping[str, Any]) -> str:
    return f"{verdict['decision']}{' (provisional)' if verdict['provisional'] else ''}" if verdict else "-"


def _queue(settings: Settings) -> str:
    try:
        Queue(str(settings.redis_url)).ping()
    except QueueError as error:
        return str(error)
    return "Redis answers"


def serving(settings: Settings) -> dict[str, dict[str, str]] | None:
    """Versions in the ML backend's memory, and why newer ones are not, by project; None when it does not answer."""
    try:
        answer = requests.get(f"{settings.backend_url}/serving", auth=settings.basic_auth, timeout=3)
        return dict(answer.json()) if answer.ok else None
    except (requests.RequestException, ValueError, KeyError):
        return None
