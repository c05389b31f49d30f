"""Deletes superfluous predictions of unlabelled tasks, once nobody may have them open.

Label Studio's API does not show which tasks are open in an editor, and it refuses an annotation whose
`parent_prediction` was deleted meanwhile. Once an annotator has typed, Label Studio has a draft of the annotation: such
tasks keep all their predictions and are checked again later. Predictions by other models are never touched.

Cost: 2 requests a page to check for annotation drafts, and 1 for each deleted prediction, as Label Studio deletes one
at a time or all of a task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from backend.drafts.chunks import leave_out, size_of
from backend.drafts.job import Job
from backend.label_studio.payload import time_of
from backend.store.database import now
from backend.store.drafts.refreshes import OPEN_SECONDS

_SAVE_SECONDS = 2.0


def delete_old(job: Job, versions: Sequence[str], per_minute: int, **chosen: Any) -> None:
    """Delete superfluous predictions of the tasks that are `chosen`, and count the tasks that annotators are editing.

    The job has the whole refresh. Raises EndedError where the time is over; the next job continues.
    """
    assert job.state
    after = job.state.after_task if job.state.of_version is None else 0
    being_edited = job.state.being_edited if after else 0
    while True:
        began, unreadable = job.clock(), set[int]()
        tasks, _ = job.client.unlabelled(job.project_id, after, size_of(per_minute), unreadable, **chosen)
        leave_out(job, unreadable)
        if not tasks:
            break
        old = {task["id"]: gone for task in tasks if (gone := _superfluous(task, job.champion.name, versions))}
        begun = job.client.tasks_being_edited(job.project_id, list(old))
        begun |= {task["id"] for task in tasks if task["id"] in old and _is_fresh(task, old[task["id"]])}
        being_edited += len(begun)
        ids = [id_ for task_id, gone in old.items() if task_id not in begun for id_ in gone]
        delete(job, ids)
        after = tasks[-1]["id"]
        job.save(being_edited=being_edited, of_version=None, after_task=after)
        job.rest(began, len(ids) * 60 / per_minute)
        job.end_in_time()
    job.save(being_edited=being_edited, after_task=0)


def delete(job: Job, ids: Sequence[int]) -> None:
    """Delete these predictions, and count them."""
    assert job.state
    deleted, saved = job.state.deleted, job.clock()
    for done, id_ in enumerate(ids, start=1):
        job.client.delete_prediction(id_)
        if done == len(ids) or job.clock() - saved >= _SAVE_SECONDS:
            job.save(deleted=deleted + done)
            saved = job.clock()


def _superfluous(task: Mapping[str, Any], champion: str, versions: Sequence[str]) -> list[int]:
    """Ids of the task's predictions by other versions, and the champion's duplicates; none without a new one."""
    current = sorted(_of(task, champion))
    if not current:
        return []
    others = [id_ for name in versions if name != champion for id_ in _of(task, name)]
    return [*others, *current[1:]]


def _is_fresh(task: Mapping[str, Any], ids: Sequence[int]) -> bool:
    """Whether one of these predictions is so new that the editor it was made for may be open."""
    made = [time_of(each.get("created_at")) for each in task.get("predictions") or [] if each["id"] in ids]
    return any(moment and now() - moment < timedelta(seconds=OPEN_SECONDS) for moment in made)


def _of(task: Mapping[str, Any], version: str) -> list[int]:
    """Ids of the task's predictions by the version."""
    return [each["id"] for each in task.get("predictions") or [] if each.get("model_version") == version]
