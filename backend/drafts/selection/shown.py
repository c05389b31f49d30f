"""What Label Studio shows of a selection: the project names it as its version, and it goes back to the version's own
drafts when the selection ends.

Label Studio's Uncertainty sampling serves the tasks with a prediction of the version that the project names, lowest
score first, and none that another annotator has open. When all of those are open or labelled it has nothing for another
annotator, or serves any other task without a draft. So a selection ends before: when no more of its tasks wait than
annotators are at it, who have these open; and when nobody has labelled one of the last for a while, because they may be
open at people who have left, and Label Studio keeps them for these for a day.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from backend.label_studio.client import LabelStudio
from backend.settings import Settings
from backend.store.database import now
from backend.store.drafts.refreshes import OPEN_SECONDS
from backend.store.drafts.selections import CHOSEN, OPEN, SHOWN, Progress, Selection
from backend.store.store import Store

log = logging.getLogger(__name__)

UNCERTAINTY = "Uncertainty sampling"
LAST_SHARE = 0.1
"""The share of a selection that may stay open at people who have left."""


def stays(store: Store, project_id: int, shown: str | None, version: str) -> bool:
    """Whether the project is to go on showing the selection that it shows: one of drafts by the version, or one of
    older drafts until there is another."""
    selection = store.selection_named(project_id, shown)
    if selection is None or selection.state not in {CHOSEN, SHOWN}:
        return False
    return selection.version == version or bool(store.selections(project_id, *OPEN))


def switch(client: LabelStudio, store: Store, project_id: int, shown: str | None, model_version: str) -> None:
    """Have the project show this version, and order its tasks as before the selection that it shows, if any."""
    selection = store.selection_named(project_id, shown)
    ordering = {"sampling": selection.sampling_before} if selection else {}
    client.update_project(project_id, model_version=model_version, **ordering)
    if selection:
        store.end_selection(selection)


def leave(client: LabelStudio, store: Store, selection: Selection) -> None:
    """End the selection: where the project still shows it, it shows the drafts it was made of again."""
    shown = client.project(selection.project_id).get("model_version")
    if shown == selection.name and selection.version:
        switch(client, store, selection.project_id, shown, selection.version)
    store.end_selection(selection)


def end_where_labelled(settings: Settings, store: Store, project_id: int) -> None:
    """End what is shown where it is over. Raises LabelStudioError where Label Studio cannot be told."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return
    for selection in store.selections(project_id, SHOWN):
        if is_over(store.selection_progress(selection)):
            leave(LabelStudio(settings.label_studio_url, settings.label_studio_api_key), store, selection)
            log.info("Project %d: the tasks of %s are labelled.", project_id, selection.name)


def is_over(progress: Progress) -> bool:
    """Whether all that waits of a selection may be open somewhere."""
    is_quiet = progress.labelled_at is not None and now() - progress.labelled_at >= timedelta(seconds=OPEN_SECONDS)
    left_open = LAST_SHARE * progress.tasks if is_quiet else 0
    return progress.waiting <= max(progress.annotators, left_open)


def end_where_another_is_shown(store: Store, project_id: int, shown: str | None, stored: bool) -> None:
    """End what a person has taken back in Label Studio itself; outside stored mode nothing can be selected."""
    for selection in store.selections(project_id, SHOWN, *(() if stored else OPEN)):
        if not stored or selection.name != shown:
            store.end_selection(selection)
