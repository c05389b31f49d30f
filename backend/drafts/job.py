"""One job on a project's drafts: what it has claimed, the time it has left, and whether it may go on."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from backend.label_studio.client import LabelStudio
from backend.store.drafts.chunks import Chunk
from backend.store.drafts.refreshes import RefreshState
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store

RUN_SECONDS = 60.0
"""A job ends after so long, because retrains may wait for its worker; the next one continues."""
_NAP_SECONDS = 2.0


class EndedError(Exception):
    """This job must end: its minute is over, it was stopped, or another version has become champion."""


@dataclass
class Job:
    """A job has the lease of the whole refresh (`state`), or that of a chunk, or both, or for a moment none."""

    client: LabelStudio
    store: Store
    registry: Registry
    project_id: int
    champion: ModelVersion
    seconds_left: float = RUN_SECONDS
    state: RefreshState | None = None
    chunk: Chunk | None = None
    _began: float = field(default_factory=lambda: time.monotonic())
    _counted: int = 0

    def claim(self) -> bool:
        """Claim the whole refresh, for what one job alone may do; False where another job has it."""
        self.state = self.store.claim_refresh(self.project_id)
        return self.state is not None

    def save(self, **changes: Any) -> RefreshState:
        """Store the progress of the whole refresh. Raises EndedError where this job must end."""
        lease = self.state.lease if self.state else -1
        self.state = self.store.save_refresh(self.project_id, lease, self._spent(), renew=True, **changes)
        if self.state is None:
            raise EndedError
        self._check_champion()
        return self.state

    def take(self, chunk: Chunk) -> None:
        """Have the chunk, which was claimed."""
        self.chunk = chunk
        self._check_champion()

    def advance(self, after_task: int, **counts: int) -> None:
        """Store how far the chunk is. Raises EndedError where this job must end."""
        assert self.chunk
        self.chunk = self.store.advance_chunk(self.chunk, after_task, {**self._spent(), **counts})
        self.check()

    def check(self) -> None:
        """Renew the lease of the chunk. Raises EndedError where this job must end."""
        if self.chunk is None or not self.store.renew_chunk(self.chunk):
            self.chunk = None
            raise EndedError
        self._check_champion()

    def leave(self, done: bool) -> None:
        """Give the chunk back."""
        if self.chunk:
            self.store.leave_chunk(self.chunk, self._spent(), done)
            self.chunk = None

    def give_back(self) -> None:
        """Give the whole refresh back, so that other jobs may begin."""
        if self.state:
            self.store.save_refresh(self.project_id, self.state.lease, self._spent(), heartbeat_at=None)
            self.state = None

    def renew(self) -> bool:
        """Renew the leases that this job has: another thread does so while a model is loaded or a batch is drafted."""
        chunk, state = self.chunk, self.state
        if chunk:
            self.store.renew_chunk(chunk)
        return state is None or self.store.renew_refresh(self.project_id, state.lease)

    def fail(self, failure: str) -> None:
        """Store why this job ends."""
        lease = self.state.lease if self.state else None
        self.store.fail_refresh(self.project_id, lease, self.champion.name, failure)
        self.store.postpone_selection(self.project_id)

    def rest(self, began: float, seconds: float) -> None:
        """Sleep until so many seconds have passed since then."""
        while (left := began + seconds - self.clock()) > 0:
            time.sleep(min(left, _NAP_SECONDS))
            if self.chunk:
                self.check()
            else:
                self.save()

    def clock(self) -> float:
        return time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether its time is over. Asked between batches only, so that each job finishes at least one."""
        return self.seconds_left - (self.clock() - self._began) <= 0

    def end_in_time(self) -> None:
        if self.is_over:
            raise EndedError

    def _spent(self) -> dict[str, float]:
        """Requests and seconds since the last time."""
        requests, seconds = self.client.requests - self._counted, self.clock() - self._began
        self._counted, self._began = self.client.requests, self._began + seconds
        self.seconds_left -= seconds
        return {"requests": requests, "seconds": seconds}

    def _check_champion(self) -> None:
        champion = self.registry.champion(self.project_id)
        if champion is None or champion.name != self.champion.name:
            raise EndedError
