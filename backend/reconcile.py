"""Label Studio's export against what was recorded: webhooks are sent once and most bulk actions send none."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

import labeling_config
from backend.corrections import Event
from backend.database import now
from backend.errors import CaptionerError, LabelStudioError
from backend.label_studio import wire
from backend.label_studio.client import LabelStudio
from backend.recording import RECONCILED
from backend.settings import Settings
from backend.store import Store
from labeling_config import LabelingConfigError

log = logging.getLogger(__name__)

SETTLED_SECONDS = 60.0
"""What was heard of more recently may be missing from the export because it was being saved meanwhile."""


@dataclass(frozen=True)
class Reconciliation:
    """What a comparison found; `new` usable corrections were added or changed by it."""

    project_id: int
    tasks: int
    annotations: int
    new: int
    deleted: int

    def __str__(self) -> str:
        return (
            f"Project {self.project_id} has {self.tasks} tasks and {self.annotations} annotations in Label Studio; "
            f"{self.new} captions were new here and {self.deleted} had been deleted there."
        )


def reconcile(project_id: int, client: LabelStudio, store: Store) -> Reconciliation:
    """Record as one event what Label Studio has and we have not, and delete what it has no more.

    Raises LabelStudioError when the export cannot be had or the project's labelling config has no caption box.
    """
    settled = now() - timedelta(seconds=SETTLED_SECONDS)
    label_config = client.project(project_id).get("label_config") or ""
    try:
        tags = labeling_config.parse(label_config)
    except LabelingConfigError as error:
        raise LabelStudioError(f"The captions of project {project_id} cannot be read: {error}") from error
    tasks, corrections = wire.corrections_from_export(client.export(project_id), project_id, tags)
    exported = {correction.annotation_id for correction in corrections}
    deleted = tuple(id_ for id_ in store.known_annotations(project_id, settled) if id_ not in exported)
    present = {task.id for task in tasks}
    deleted_tasks = tuple(id_ for id_ in store.known_tasks(project_id, settled) if id_ not in present)
    receipt = store.record(
        Event(
            action=RECONCILED,
            project_id=project_id,
            corrections=corrections,
            tasks=tasks,
            deleted_annotations=deleted,
            deleted_tasks=deleted_tasks,
            body={
                "tasks": len(tasks),
                "annotations": len(corrections),
                "deleted": list(deleted),
                "deleted_tasks": list(deleted_tasks),
            },
        )
    )
    found = Reconciliation(project_id, len(tasks), len(corrections), receipt.new_corrections, len(deleted))
    log.info("%s", found)
    return found


def reconcile_if_possible(settings: Settings, store: Store, project_id: int) -> None:
    """Events may have been lost on the way. That Label Studio cannot be asked now is no reason not to go on."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return
    try:
        reconcile(project_id, LabelStudio(settings.label_studio_url, settings.label_studio_api_key), store)
    except CaptionerError as error:
        log.warning("Project %d is not compared with Label Studio: %s", project_id, error)
