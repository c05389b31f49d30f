"""Queues the jobs that draft: as many as there are free workers and chunks for them."""

from __future__ import annotations

from math import ceil

from backend.drafts.chunks import left_of, size_of
from backend.queue import DRAFTS, Queue
from backend.settings import Settings
from backend.store.drafts.refreshes import DRAFTING
from backend.store.registry import Registry
from backend.store.store import Store


def queue_refreshes(settings: Settings, store: Store, queue: Queue, project_id: int) -> None:
    """Queue what SQL says is to be done; nothing changes where it is queued already."""
    if not settings.label_studio_url or not settings.label_studio_api_key:
        return
    champion, state = Registry(store).champion(project_id), store.refresh_state(project_id)
    is_due = state.is_due(champion.name if champion else None, store.newest_task(project_id))
    is_due = is_due or (not (state.stopped or state.is_claimed) and store.selection_is_due(project_id))
    if champion is None or not (is_due or store.is_untidy(state)):
        return
    wanted = 1
    if state.state == DRAFTING and state.version == champion.name:
        chunks = store.chunks(project_id)
        busy = sum(chunk.is_claimed for chunk in chunks)
        per_minute = state.per_minute if state.wanted else settings.refresh_per_minute
        free = len(chunks) - busy
        if not state.listed:
            left = left_of(state, chunks)
            free += max(1, ceil(left / size_of(per_minute, left)))
        elif not chunks:
            free = 1  # to do what follows
        wanted = min(free, max(queue.workers(name=DRAFTS), 1) - busy)
    for number in range(wanted):
        queue.enqueue_refresh(project_id, state.jobs + 1 + number)
