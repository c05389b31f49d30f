"""What failed lately in a project, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from backend.corrections.reconcile import about_unreadable
from backend.store.database import now
from backend.store.retrains import DONE, FAILED, Retrain
from backend.store.store import Store
from training.runtime.console import counted

RETRAINS, LATELY = 3, timedelta(days=7)
"""Most failed retrains that are shown, and for how long where a later one succeeded."""
TASKS, REASONS, NAMED = 100, 5, 5
"""Most tasks without a draft that are counted, reasons that are told, and tasks of one reason that are named."""


@dataclass(frozen=True)
class Trouble:
    """What failed and why, in the sentence that was stored then, and what to do."""

    what: str
    why: str
    remedy: str
    at: datetime | None = None


def troubles(
    store: Store,
    project_id: int,
    retrains: Sequence[Retrain],
    compared: Mapping[str, Any],
    refused: str | None,
    queue: Mapping[str, Any],
) -> list[Trouble]:
    """The gravest first."""
    return [
        *_champion(project_id, refused),
        *_queue(queue, any(retrain.active for retrain in retrains)),
        *_retrains(retrains),
        *_comparison(store, project_id, compared),
        *_drafts(store, project_id),
    ]


def _champion(project_id: int, refused: str | None) -> Iterator[Trouble]:
    if refused:
        remedy = f"It is tried again every half minute. `captioner rollback --project {project_id}` lets the version "
        yield Trouble("The champion cannot be loaded", refused, f"{remedy}before it serve.")


def _queue(queue: Mapping[str, Any], wanted: bool) -> Iterator[Trouble]:
    if queue["failure"]:
        remedy = (
            "Drafts and corrections go on; retrains begin once Redis answers. `captioner doctor` says what mends it."
        )
        yield Trouble("The queue does not answer", queue["failure"], remedy)
    elif queue["workers"] == 0 and (wanted or queue["waiting"]):
        why = "A retrain or another job waits, and nobody is there to do it."
        yield Trouble("No worker runs", why, "Start one with `captioner worker`, or start `captioner up` again.")
    elif (wanted and queue["retrain"] == 0) or (queue["waiting"] and queue["draft"] == 0):
        missing = "retrains" if queue["retrain"] == 0 else "drafts or is compared with Label Studio"
        why = f"Every worker runs with --only, and none of them takes what {missing}."
        yield Trouble("Some jobs have no worker", why, "Start one with `captioner worker`, without --only.")


def _retrains(retrains: Sequence[Retrain]) -> Iterator[Trouble]:
    newest = next((each.id for each in retrains if each.state == DONE), 0)
    lately = [each for each in retrains if each.id > newest or (each.ended_at or now()) > now() - LATELY]
    for retrain in [each for each in lately if each.state == FAILED][:RETRAINS]:
        remedy = (
            "No correction is lost: the next retrain learns from them. Start Training in Label Studio begins it now."
        )
        yield Trouble(f"Retrain {retrain.snapshot} failed", retrain.outcome or "", remedy, retrain.ended_at)


def _comparison(store: Store, project_id: int, compared: Mapping[str, Any]) -> Iterator[Trouble]:
    check = f"`captioner doctor --project {project_id}` checks the address and the token of Label Studio."
    if compared["failure"]:
        at = store.reconciliation_state(project_id).failed_at
        yield Trouble("Label Studio could not be asked for missed changes", compared["failure"], check, at)
    if compared["unreadable"]:
        why = about_unreadable(compared["unreadable"])
        yield Trouble("Some tasks were left out", why, "Open them in Label Studio; delete those that do not open.")
    if failure := store.refresh_state(project_id).failure:
        yield Trouble("Drafts could not be stored in Label Studio", failure, check)


def _drafts(store: Store, project_id: int) -> Iterator[Trouble]:
    failures = store.failures(project_id, limit=TASKS + 1)
    tasks: dict[str, list[int]] = {}
    for failure in failures[:TASKS]:
        tasks.setdefault(failure.reason, []).append(failure.task_id)
    groups = [(reason, sorted(ids)) for reason, ids in tasks.items()]
    if len(groups) > REASONS:  # an image each, mostly
        further = groups[REASONS - 1 :]
        ids = sorted(id for _, some in further for id in some)
        groups = [*groups[: REASONS - 1], (f"Of {len(further)} further reasons this is one: {further[0][0]}", ids)]
    for reason, ids in groups:
        left = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        number = counted(len(ids), "task") + (" or more" if len(failures) > TASKS else "")
        remedy = "Mend the image or its address where that is why; then open the task again: it is drafted anew."
        yield Trouble(f"{number} without a draft ({', '.join(map(str, ids[:NAMED]))}{left})", reason, remedy)
