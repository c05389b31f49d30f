"""Orders of people: select tasks, and undo it. A job makes the selection (drafts/selection/making.py)."""

from __future__ import annotations

from backend.domain.errors import LabelStudioError
from backend.drafts import modes
from backend.drafts.selection.shown import leave
from backend.label_studio.client import LabelStudio
from backend.store.drafts.refreshes import DRAFTING, STORED
from backend.store.drafts.selections import OPEN, SHOWN, Order, Selection
from backend.store.store import Store


def order(client: LabelStudio, store: Store, project_id: int, wanted: Order) -> Selection:
    """Have tasks selected in the background, once every unlabelled task has a stored draft, which is ordered too.

    Raises LabelStudioError where there is no such project, no caption box in it or no model for it.
    """
    champion, state = modes.check(client, store, project_id), modes.ask(client, store, project_id)
    is_ready = state.mode == STORED and state.version == champion.name
    if not is_ready or state.stopped or state.state == DRAFTING:
        modes.preannotate(client, store, project_id, STORED, state.per_minute)
    return store.order_selection(project_id, wanted)


def undo(client: LabelStudio, store: Store, project_id: int) -> list[Selection]:
    """End what is selected: the project shows again what it showed before, in the order it had; what was ended.

    Its predictions are deleted by a job, once nobody may have them open.
    """
    found = store.selections(project_id, *OPEN, SHOWN)
    if not found and not any(each.after_promotions for each in store.selections(project_id)):
        raise LabelStudioError(f"Nothing is selected in project {project_id}.")
    store.order_refresh(project_id)  # a job that stores the selection ends
    for selection in found:
        leave(client, store, selection)
    store.undo_selections(project_id)
    return found
