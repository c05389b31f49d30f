"""Makes a selection in the background: chosen in SQL, then stored in Label Studio, then shown; and later deletes its
predictions. A job that was killed is continued by the next one.

Cost: 1/100 request a selected task to read it, 1/100 to store its prediction, and 1 each to delete those of tasks that
nobody has labelled.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backend.domain.errors import CaptionerError
from backend.drafts.chunks import leave_out, size_of
from backend.drafts.job import EndedError, Job
from backend.drafts.selection.shown import UNCERTAINTY, leave
from backend.drafts.tidy import delete
from backend.label_studio.client import FULL_TASKS
from backend.label_studio.predictions import Predictions
from backend.store.database import chunks
from backend.store.drafts.selections import CHOSEN, ENDED, OPEN, WANTED, Chosen, Ranked, Selection
from backend.store.store import Store

log = logging.getLogger(__name__)

NOTHING_WAITS = "No unlabelled task has a stored draft."


class CannotChooseError(CaptionerError):
    """The strategy needs what is not known of the tasks that wait."""


Choose = Callable[[Job, Selection], Sequence[Chosen]]
"""Chooses waiting tasks with a draft by the job's champion, in the order in which they are to be labelled."""


def renew(store: Store, project_id: int, version: str) -> None:
    """Order anew what was selected among drafts by another version, where a person wants that or never saw it."""
    for last in store.selections(project_id)[-1:]:
        if last.version not in {None, version} and (last.after_promotions or last.state == CHOSEN):
            store.renew_selection(last)


def make(job: Job, choose: Choose) -> None:
    """Make the selection that is ordered, where there is one.

    The job has the whole refresh, every unlabelled task has a stored draft by its champion, and the project shows that
    version or a selection. Raises EndedError where the job must end; the next one continues.
    """
    for ordered in job.store.selections(job.project_id, *OPEN):
        selection = _chosen(job, ordered, choose) if ordered.state == WANTED else ordered
        for some in chunks(job.store.ranks(selection, unstored=True), FULL_TASKS):
            _store(job, selection, some)
            job.save()
            job.end_in_time()
        _show(job, selection)


def _chosen(job: Job, selection: Selection, choose: Choose) -> Selection:
    try:
        chosen = choose(job, selection)
    except CannotChooseError as error:
        job.store.end_selection(selection, str(error), job.champion.name)
        raise EndedError from error
    project = job.client.project(job.project_id)
    earlier = job.store.selection_named(job.project_id, project.get("model_version"))
    before = earlier.sampling_before if earlier else project.get("sampling")
    job.save()
    made = job.store.save_choice(selection, job.champion.name, before, chosen)
    if made is None:
        raise EndedError
    return made


def _store(job: Job, selection: Selection, ranked: Sequence[Ranked]) -> None:
    """Copy the drafts of these tasks, those that still wait; their score puts them in order."""
    unreadable = set[int]()
    tasks = job.client.full_tasks(job.project_id, [each.task_id for each in ranked], unreadable)
    leave_out(job, unreadable)
    found, waiting, made = {task["id"]: task for task in tasks}, list[int](), list[dict[str, Any]]()
    for task_id, rank in ranked:
        held = _predictions(found.get(task_id) or {})
        draft = held.get(selection.version)
        if draft is not None:
            waiting.append(task_id)
            if selection.name not in held:
                copy = {"task": task_id, "result": draft.get("result") or [], "model_version": selection.name}
                made.append({**copy, "score": rank / selection.count})
    Predictions(job.client, job.project_id).store(made)
    gone = {each.task_id for each in ranked} - set(waiting)
    job.store.mark_stored(selection, waiting, sorted(gone))


def _predictions(task: Mapping[str, Any]) -> dict[str | None, Mapping[str, Any]]:
    """The first prediction of each version, of a task that waits; none of another."""
    if task.get("total_annotations") or task.get("cancelled_annotations"):
        return {}
    return {each.get("model_version"): each for each in reversed(task.get("predictions") or [])}


def _show(job: Job, selection: Selection) -> None:
    """Have the label stream serve it, unless nothing is left of it."""
    if not job.store.ranks(selection):
        job.store.end_selection(selection, NOTHING_WAITS)
        return
    job.save()
    job.client.update_project(job.project_id, model_version=selection.name, sampling=UNCERTAINTY)
    if not job.store.show_selection(selection):  # it was undone in this moment
        leave(job.client, job.store, selection)
        raise EndedError
    log.info("Project %d: the label stream serves the tasks of %s.", job.project_id, selection.name)


def delete_ended(job: Job, per_minute: int) -> None:
    """Delete the predictions of selections that ended so long ago that nobody has them open, but on tasks that somebody
    is editing: those are left for the next time. Raises EndedError where the time is over."""
    for selection in job.store.selections(job.project_id, ENDED):
        if selection.is_due:
            _delete(job, selection, per_minute)


def _delete(job: Job, selection: Selection, per_minute: int) -> None:
    after, is_edited = 0, False
    while True:
        began, unreadable = job.clock(), set[int]()
        size = size_of(per_minute)
        tasks, _ = job.client.unlabelled(job.project_id, after, size, unreadable, version=selection.name)
        leave_out(job, unreadable)
        if not tasks:
            break
        copies = {task["id"]: _predictions(task).get(selection.name) for task in tasks}
        edited = job.client.tasks_being_edited(job.project_id, list(copies))
        is_edited = is_edited or bool(edited)
        ids = [copy["id"] for task_id, copy in copies.items() if copy and task_id not in edited]
        delete(job, ids)
        after = tasks[-1]["id"]
        job.rest(began, len(ids) * 60 / per_minute)
        job.end_in_time()
    job.store.forget_selection(selection, again=is_edited)
