"""Where a project's drafts come from: live, Label Studio asks the backend; stored, it shows what is stored there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from backend.domain.errors import LabelStudioError
from backend.label_studio.client import LabelStudio
from backend.store.refreshes import LIVE, STORED, RefreshState
from backend.store.registry import Registry
from backend.store.store import Store


def mode_of(project: Mapping[str, Any], versions: Collection[str]) -> str:
    """STORED where the project shows a stored version of ours: else an ML backend's title stands there, or nothing."""
    return STORED if project.get("model_version") in versions else LIVE


def ask(client: LabelStudio, store: Store, project_id: int) -> RefreshState:
    """The mode as Label Studio has it now, and how far the drafts are."""
    versions = {version.name for version in Registry(store).versions(project_id)}
    mode = mode_of(client.project(project_id), versions)
    known = store.refresh_state(project_id)
    return known if known.mode == mode else store.order_refresh(project_id, mode=mode)


def to_live(client: LabelStudio, store: Store, project_id: int) -> None:
    """Have Label Studio ask the backend, from now on. Raises LabelStudioError where the project has no ML backend."""
    backends = client.ml_backends(project_id)
    if not backends:
        raise LabelStudioError(f"Project {project_id} has no ML backend to ask: `captioner connect` makes one.")
    client.update_project(project_id, model_version=backends[0]["title"])
    store.begin_refresh(project_id, mode=LIVE, wanted=None)


def to_stored(client: LabelStudio, store: Store, project_id: int) -> None:
    """Have a draft stored for every unlabelled task, in the background, and then have Label Studio show those.

    Raises LabelStudioError where there is no such project or no model for it.
    """
    client.project(project_id)
    if Registry(store).champion(project_id) is None:
        raise LabelStudioError(f"There is no model for project {project_id} yet, so no drafts can be stored.")
    store.begin_refresh(project_id, wanted=STORED)
