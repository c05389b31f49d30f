"""Drafts of one version outside the web process, as /predict makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backend.domain.corrections import Task
from backend.images.cache import Images
from backend.serving.champions import Champions, Loader
from backend.serving.drafting import Drafted, Drafting
from backend.settings import Settings
from backend.store.registry import ModelVersion
from backend.store.store import Store

Draw = Callable[[int, Sequence[Task], ModelVersion], list[Drafted]]
"""Drafts of tasks of a project by the version, or why there is none, in order."""


def drafts(settings: Settings, store: Store, load: Loader | None = None) -> Draw:
    """Drafts of one version from the services of /predict; it is loaded where it has not drafted all of them before."""
    champions = Champions(settings.device, load)
    drafting = Drafting(store, Images(settings), champions, settings.blind_share)

    def draw(project_id: int, tasks: Sequence[Task], version: ModelVersion) -> list[Drafted]:
        known = {
            (draft.task_id, draft.image)
            for draft in store.get_drafts(project_id, [task.id for task in tasks], version.name)
        }
        if any((task.id, task.image) not in known for task in tasks) and not champions.serving(project_id):
            champions.serve(project_id, version.name, version.checkpoint)
        return drafting.draft(project_id, tasks, version.name)

    return draw
