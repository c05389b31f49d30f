"""The draft modes of a project: live, Label Studio asks the backend; stored, it shows stored predictions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import labeling_config
from backend.domain.errors import LabelStudioError
from backend.domain.selections import version_of
from backend.drafts.selection.shown import switch
from backend.label_studio.client import LabelStudio
from backend.store.drafts.refreshes import DRAFTING, LIVE, STORED, RefreshState
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from labeling_config import LabelingConfigError


def mode_of(project: Mapping[str, Any], versions: Collection[str]) -> str:
    """STORED where the project shows a version of ours or a selection among its drafts; in live mode it names an ML
    backend or nothing."""
    shown = project.get("model_version")
    return STORED if shown in versions or version_of(shown or "") in versions else LIVE


def ask(client: LabelStudio, store: Store, project_id: int) -> RefreshState:
    """The refresh state, with the mode that Label Studio has now."""
    versions = {version.name for version in Registry(store).versions(project_id)}
    mode = mode_of(client.project(project_id), versions)
    known = store.refresh_state(project_id)
    return known if known.mode == mode else store.order_refresh(project_id, mode=mode)


def to_live(client: LabelStudio, store: Store, project_id: int) -> None:
    """Switch to live mode. Raises LabelStudioError where the project has no ML backend."""
    backends = client.ml_backends(project_id)
    if not backends:
        raise LabelStudioError(f"Project {project_id} has no ML backend to ask: `captioner connect` makes one.")
    switch(client, store, project_id, client.project(project_id).get("model_version"), backends[0]["title"])
    store.undo_selections(project_id)
    store.begin_refresh(project_id, mode=LIVE, wanted=None)


def to_stored(client: LabelStudio, store: Store, project_id: int) -> None:
    """Store a draft for every unlabelled task in the background, and then switch to stored mode.

    Raises LabelStudioError where there is no such project or no model for it.
    """
    preannotate(client, store, project_id, STORED)


def preannotate(
    client: LabelStudio, store: Store, project_id: int, wanted: str, per_minute: int | None = None
) -> RefreshState:
    """Store a draft for every unlabelled task in the background, at most so many a minute; `wanted` is what then
    follows, STORED or EVERY. What was interrupted or stopped goes on where it was.

    Raises LabelStudioError where there is no such project, no caption box in it or no model for it.
    """
    champion = check(client, store, project_id)
    state = store.refresh_state(project_id)
    ordered = {"wanted": wanted, "per_minute": per_minute}
    if state.wanted and state.version == champion.name and state.state == DRAFTING:
        return store.order_refresh(project_id, stopped=False, failure=None, **ordered)
    return store.begin_refresh(project_id, **ordered)


def check(client: LabelStudio, store: Store, project_id: int) -> ModelVersion:
    """The project's champion. Raises LabelStudioError where there is none, or drafts cannot be stored."""
    try:
        labeling_config.parse(client.project(project_id).get("label_config") or "")
    except LabelingConfigError as error:
        raise LabelStudioError(f"Captions cannot be stored in project {project_id}: {error}") from error
    champion = Registry(store).champion(project_id)
    if champion is None:
        raise LabelStudioError(f"There is no model for project {project_id} yet, so no drafts can be stored.")
    return champion
