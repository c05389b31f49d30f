"""Drafts by one version outside the web process, the same as /predict makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backend.domain.corrections import Task
from backend.images.cache import Images
from backend.serving.champions import Champions, Loader
from backend.serving.drafting import Drafted, Drafting
from backend.settings import Settings
from backend.store.registry import ModelVersion
from backend.store.store import Store

Drafter = Callable[[int, Sequence[Task], ModelVersion], list[Drafted]]
"""Gives, for tasks of a project, a draft by the version or the reason why there is none, in order."""


def drafter(settings: Settings, store: Store, load: Loader | None = None) -> Drafter:
    """A drafter of one version; it loads the version only for tasks that it has not drafted before."""
    champions = Champions(settings.device, load)
    drafting = Drafting(store, Images(settings), champions, settings.blind_share)

    def draft(project_id: int, tasks: Sequence[Task], version: ModelVersion) -> list[Drafted]:
        known = drafting.known(project_id, tasks, version.name)
        if any((task.id, task.image) not in known for task in tasks) and not champions.serving(project_id):
            champions.serve(project_id, version.name, version.checkpoint)
        return drafting.draft(project_id, tasks, version.name)

    return draft
