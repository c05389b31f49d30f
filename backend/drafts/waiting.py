"""Drafts of waiting tasks follow the corrections: Label Studio asks once for a draft and keeps it.

A prediction is changed in place. So an editor that has it open submits what it began with, and a task that somebody is
editing keeps its prediction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import labeling_config
from backend.domain.corrections import Draft
from backend.domain.errors import LabelStudioRefusalError
from backend.domain.selections import number_of, version_of
from backend.label_studio import wire
from backend.label_studio.client import FULL_TASKS, LabelStudio
from backend.serving.reuse import Reuse
from backend.settings import Settings
from backend.store.database import chunks
from backend.store.registry import Registry
from backend.store.store import Store
from labeling_config import Tags

log = logging.getLogger(__name__)

MANY = 1000
"""Changed images, from which on it pays to read all drafts that wait."""


def follow(settings: Settings, store: Store, reuse: Reuse, project_id: int, version: str) -> None:
    """Change the predictions of unlabelled tasks whose drafts other corrections have changed since the last call.

    Nothing is done for a version that is the champion no more. Several processes may do the same at once. Where Label
    Studio cannot be reached it raises LabelStudioError, and the next call tries again.
    """
    done, newest = store.reused_seq(project_id), store.revision(project_id)
    if newest <= done or not settings.label_studio_url or not settings.label_studio_api_key:
        return
    champion = Registry(store).champion(project_id)
    if champion is None or champion.name != version:
        return
    drafts = _affected(store, reuse, project_id, version, done)
    config = store.label_config(project_id)
    if drafts and config:
        client = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
        try:
            changed = sum(_replace(client, labeling_config.parse(config), some) for some in chunks(drafts, FULL_TASKS))
            log.info("Project %d: %d waiting drafts follow the corrections.", project_id, changed)
            store.show_instead(project_id, drafts)
        except LabelStudioRefusalError as error:  # asked again it would refuse again
            log.warning("The waiting drafts of project %d stay as they are: %s", project_id, error)
    store.save_reused_seq(project_id, newest)


def _affected(store: Store, reuse: Reuse, project_id: int, version: str, after_seq: int) -> list[Draft]:
    """What waiting tasks are to show, those of which it may not be what they were last shown."""
    changed = store.changed_corrections(project_id, after_seq)
    sources = {each.task_id for each in changed}
    images = {each.image_sha256 for each in changed if each.image_sha256}
    waiting = store.waiting_drafts(project_id, version) if len(images) > MANY else None
    if waiting is not None and _are_fewer(len(waiting), len(images)):
        images |= {draft.image_sha256 for draft in waiting if draft.image_sha256}
    else:
        images = reuse.alike(project_id, version, sorted(images))
        waiting = store.waiting_drafts(project_id, version, store.tasks_with(project_id, images, sources))
    own: dict[tuple[int, str], Draft] = {}
    once_copied: set[tuple[int, str]] = set()
    for draft in waiting:
        key = draft.task_id, draft.image
        if draft.from_task is None:
            own.setdefault(key, draft)
        elif draft.from_task in sources:
            once_copied.add(key)
    suspects = {key: draft for key, draft in own.items() if key in once_copied or draft.image_sha256 in images}
    shown = reuse.shown(project_id, version, suspects) if suspects else {}
    return [draft for key, draft in shown.items() if key in once_copied or draft.from_task in sources]


def _are_fewer(waiting: int, changed: int) -> bool:
    """Whether to look up all images that wait rather than those that changed, as where captions of years are imported:
    each is compared with all others, for a few milliseconds where there are 100,000."""
    return waiting < changed


def _replace(client: LabelStudio, tags: Tags, drafts: Sequence[Draft]) -> int:
    """Change the predictions of these tasks that differ from their drafts; how many were changed."""
    by_task = {draft.task_id: draft for draft in drafts}
    project_id = drafts[0].project_id
    tasks = client.full_tasks(project_id, list(by_task), set())
    editing = client.tasks_being_edited(project_id, [task["id"] for task in tasks])
    changed = 0
    for task in tasks:
        if task["id"] in editing or task.get("total_annotations") or task.get("cancelled_annotations"):
            continue
        wanted = wire.prediction(by_task[task["id"]], tags)
        for prediction in task.get("predictions") or []:
            name = prediction.get("model_version") or ""
            if version_of(name) == wanted["model_version"] and prediction.get("result") != wanted["result"]:
                score = prediction.get("score") if number_of(name) else wanted["score"]  # a selection keeps its order
                client.update_prediction(prediction["id"], result=wanted["result"], score=score)
                changed += 1
    return changed
