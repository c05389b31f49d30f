"""The reports of `captioner status` and `captioner versions`, from SQL, the queue and the running ML backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from backend.corrections.reconcile import about_unreadable
from backend.domain.errors import QueueError
from backend.images import space
from backend.queue import Queue
from backend.reports import drafting, scores, selection
from backend.reports.edits import by_version, taught
from backend.reports.progress import NO_PROJECT, duration, latest, retrain_lines, seconds_since
from backend.reports.serving import serving
from backend.settings import Settings
from backend.store.reconciliations import ReconciliationState
from backend.store.registry import DEFAULT, Registry
from backend.store.retrains import Retrain
from backend.store.store import Store
from training.runtime.console import counted, table

NEWEST, WORDS = 4, 12
"""Newest versions and new words that are shown; `--json` has all."""


def report(settings: Settings) -> dict[str, Any]:
    """The whole report as JSON values. What cannot be reached is described; it is no error."""
    store = Store(settings.database_url, settings.data_dir)
    store.migrate()
    registry = Registry(store)
    loaded = serving(settings)
    others = loaded is not None and loaded.get("database", store.identity) != store.identity
    loaded = None if others else loaded
    return {
        "backend": {"url": settings.backend_url, "up": loaded is not None, "of_other_data": others},
        "queue": _queue(settings),
        "disk": space.usage(settings),
        "default_champion": registry.champions().get(DEFAULT),
        "projects": [_project(settings, store, loaded, each.id) for each in store.projects()],
        "versions": versions_of(registry),
    }


def text(status: Mapping[str, Any]) -> str:
    """The report as lines for people."""
    backend = status["backend"]
    does = "serves" if backend["up"] else "serves other data" if backend["of_other_data"] else "does not answer"
    lines = [
        f"ML backend   {backend['url']} {does}",
        f"Queue        {status['queue']}",
        f"Disk         {space.about(status['disk'])}",
    ]
    if status["default_champion"]:
        lines.append(f"Default      {status['default_champion']} serves projects without a champion of their own")
    if not status["projects"]:
        lines.append(NO_PROJECT)
    for project in status["projects"]:
        lines += ["", *_project_lines(project)]
    if status["versions"]:
        lines += ["", _table(status["versions"])]
    return "\n".join(lines)


def versions_text(versions: Sequence[Mapping[str, Any]]) -> str:
    """What `versions_of` found as a table."""
    return _table(versions) if versions else "There are no model versions yet."


def _project(settings: Settings, store: Store, loaded: Mapping[str, Any] | None, project_id: int) -> dict[str, Any]:
    counts, registry = store.counts(project_id), Registry(store)
    champion = registry.champion(project_id)
    retrains = store.retrains(project_id, limit=50)
    every = settings.retrain_every or None
    versions = by_version(store.draft_changes(project_id))
    made_by = next((retrain for retrain in retrains if champion and retrain.version == champion.name), None)
    own, default = str(project_id), str(DEFAULT)
    served = loaded and (loaded["serving"].get(own) or loaded["serving"].get(default))
    owner = own if project_id in registry.champions() else default
    return {
        "id": project_id,
        "champion": champion.name if champion else None,
        "serving": served,
        "refused": loaded and loaded["refused"].get(owner),
        **asdict(counts),
        "kept": sum(version["kept"] for version in versions),
        "drafts_by_version": versions,
        "taught": made_by and taught(store, project_id, made_by.version or "", made_by.cutoff_seq),
        "retrain_in": every and store.corrections_until_retrain(project_id, every),
        "retrains": [_retrain(retrain) for retrain in retrains],
        "training": latest(retrains),
        "compared": compared(store.reconciliation_state(project_id)),
        "drafting": drafting.report(store, project_id),
        "selection": selection.report(store, project_id),
        "score": scores.report(store, project_id),
        "last_failures": [{"task": f.task_id, "reason": f.reason} for f in store.failures(project_id, limit=5)],
    }


def _project_lines(project: Mapping[str, Any]) -> Iterable[str]:
    yield f"Project {project['id']}"
    champion = project["champion"] or "none yet"
    swapping = project["serving"] not in {None, project["champion"]}
    yield f"  champion     {champion}" + (
        f" ({'loading; ' if project['champion'] else ''}{project['serving']} still serves)" if swapping else ""
    )
    if project["refused"]:
        yield f"  not served   {project['refused']}"
    yield f"  tasks        {project['tasks']} known, {counted(project['drafts'], 'draft')} served"
    yield (
        f"  corrections  {project['corrections']} usable ({counted(project['kept'], 'draft')} accepted unchanged), "
        f"{project['skipped']} skipped or empty"
    )
    yield from _edits_lines(project["drafts_by_version"], project["taught"])
    yield from scores.lines(project["score"])
    goal = "the first model" if project["champion"] is None else "the next retrain"
    new = counted(project["new"], "is", "are")
    if project["training"]["active"]:
        pass
    elif project["retrain_in"] is None:
        yield f"  retrain      Start Training in Label Studio's settings begins {goal} ({new} new)"
    else:
        start = ", or Start Training in Label Studio's settings" if project["new"] else ""
        yield f"  retrain      {counted(project['retrain_in'], 'more correction')} until {goal}{start} ({new} new)"
    yield from retrain_lines(project["training"])
    yield from _compared_lines(project["compared"])
    yield from drafting.lines(project["drafting"])
    yield from selection.lines(project["selection"])
    if project["failures"]:
        yield f"  no draft     {counted(project['failures'], 'task')}, the latest:"
        for failure in project["last_failures"]:
            yield f"               task {failure['task']}: {failure['reason']}"


def _edits_lines(versions: Sequence[Mapping[str, Any]], taught: Mapping[str, Any] | None) -> Iterable[str]:
    """How much annotators change the drafts of the first and the newest versions, and what corrections taught."""
    if versions:
        rows = [(f"{'edits':11}", "drafts of", "corrected", "kept", "words changed a word")]
        for each in (*versions[:1], *versions[1:][-NEWEST:]):
            row = each["version"], str(each["corrections"]), f"{each['kept_share']:.0%}", f"{each['edits']:.2f}"
            rows.append(("", *row))
        yield from (f"  {line}" for line in table(rows, "<<>>>").splitlines())
    if taught:
        words = ", ".join(taught["words"][:WORDS]) or "no new word"
        last = f"the last {counted(taught['corrections'], 'correction')} that it learned from"
        yield f"  taught       {last}: drafts of {taught['version']} are the first with {words}"


def compared(state: ReconciliationState) -> dict[str, Any]:
    """When the project was last compared with Label Studio (seconds ago, None if never), and what that repaired.

    `lag_seconds` is for the last comparison of every task, `seconds_ago` for the last one of any kind.
    """
    return {
        "lag_seconds": seconds_since(state.completed_at),
        "seconds_ago": seconds_since(state.compared_at),
        "tasks": state.completed_tasks,
        "requests": state.completed_requests,
        "seconds": state.completed_seconds,
        "repairs": state.repairs,
        "repaired": state.repaired,
        "failure": state.failure,
        "unreadable": state.unreadable,
    }


def _compared_lines(compared: Mapping[str, Any]) -> Iterable[str]:
    if compared["lag_seconds"] is None:
        yield "  compared     never with Label Studio: run `captioner reconcile` or set LABEL_STUDIO_API_KEY"
    else:
        yield (
            f"  compared     every task {duration(compared['lag_seconds'])} ago ({counted(compared['tasks'], 'task')}, "
            f"{counted(compared['requests'], 'request')}, {compared['seconds']:.1f} s), changed tasks "
            f"{duration(compared['seconds_ago'])} ago; {counted(compared['repaired'], 'missed change')} so far"
        )
    if compared["failure"]:
        yield f"  not compared {compared['failure']}"
    if compared["unreadable"]:
        yield f"  left out     {about_unreadable(compared['unreadable'])}"


def _retrain(retrain: Retrain) -> dict[str, Any]:
    """The fields by name, times as text."""
    fields = {name: str(value) if isinstance(value, datetime) else value for name, value in asdict(retrain).items()}
    return {**fields, "seconds": retrain.seconds}


def versions_of(registry: Registry, project_id: int | None = None) -> list[dict[str, Any]]:
    """The model versions of one project or of all, the newest first."""
    champions = registry.champions()
    return [
        {
            "name": version.name,
            "project": version.project_id,
            "parent": version.parent,
            "state": version.state,
            "verdict": version.verdict,
            "champion_of": sorted(project for project, name in champions.items() if name == version.name),
            "created_at": str(version.created_at),
        }
        for version in reversed(registry.versions(project_id))
    ]


def _table(versions: Sequence[Mapping[str, Any]]) -> str:
    rows = [("version", "parent", "made", "BLEU-4", "champion's", "held-out pairs", "verdict", "serves")]
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
                verdict.get("decision", "-") + (" (provisional)" if verdict.get("provisional") else ""),
                ", ".join(serves) or "-",
            )
        )
    return table(rows, "<<<>>><<")


def _score(score: Mapping[str, Any] | None) -> str:
    return f"{score['value']:.1f}" if score else "-"


def _queue(settings: Settings) -> str:
    try:
        Queue(str(settings.redis_url)).ping()
    except QueueError as error:
        return str(error)
    return "Redis answers"
