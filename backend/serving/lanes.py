"""Who goes first: small requests, then large ones, then what is drafted in the background."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from enum import IntEnum
from typing import Generic, TypeVar

FEW = 4
"""Tasks of a small request: an annotator waits for it. Label Studio asks for one task when it is opened, and for all
those selected when somebody wants them drafted."""

Item = TypeVar("Item")


class Lane(IntEnum):
    """The smaller, the more urgent."""

    SMALL = 0
    LARGE = 1
    BACKGROUND = 2

    @classmethod
    def of(cls, tasks: int) -> Lane:
        """The lane of a request of so many tasks."""
        return cls.SMALL if tasks <= FEW else cls.LARGE


PATIENCE = {Lane.SMALL: 0, Lane.LARGE: 3, Lane.BACKGROUND: 15}
"""How often other lanes go first while something waits in this one: where small requests come all the time, large ones
have every fourth turn."""


class Lanes(Generic[Item]):
    """What waits, by lane and owner; the owners of a lane, which are requests, take turns. The caller locks it."""

    def __init__(self) -> None:
        self._waiting: dict[Lane, dict[object, deque[Item]]] = {lane: {} for lane in Lane}
        self._passed: Counter[Lane] = Counter()

    def __len__(self) -> int:
        return sum(len(items) for owners in self._waiting.values() for items in owners.values())

    def put(self, item: Item, lane: Lane, owner: object) -> None:
        self._waiting[lane].setdefault(owner, deque()).append(item)

    def take(self, fits: Callable[[Lane, object], bool] = lambda lane, owner: True) -> tuple[Lane, object, Item] | None:
        """Whose turn it is, of the lanes and owners that fit; None where nothing fits."""
        late = [lane for lane in Lane if self._waiting[lane] and self._passed[lane] >= PATIENCE[lane] > 0]
        for lane in [*late, *Lane]:
            owner = next((owner for owner in self._waiting[lane] if fits(lane, owner)), None)
            if owner is not None:
                self._passed.update(other for other in Lane if other > lane and self._waiting[other])
                self._passed[lane] = 0
                return lane, owner, self._next(lane, owner)
        return None

    def take_alike(self, lane: Lane, alike: Callable[[Item], bool]) -> Item | None:
        """One more of the lane that may go together with what was taken."""
        owner = next((owner for owner, items in self._waiting[lane].items() if alike(items[0])), None)
        return None if owner is None else self._next(lane, owner)

    def hasten(self, item: Item, lane: Lane) -> None:
        """Have an item that waits in another lane wait in this one."""
        for owners in self._waiting.values():
            for owner, items in owners.items():
                if item in items:
                    items.remove(item)
                    if not items:
                        del owners[owner]
                    self.put(item, lane, owner)
                    return

    def drop(self, owner: object) -> None:
        """Forget what waits for this owner."""
        for owners in self._waiting.values():
            owners.pop(owner, None)

    def _next(self, lane: Lane, owner: object) -> Item:
        items = self._waiting[lane].pop(owner)
        item = items.popleft()
        if items:
            self._waiting[lane][owner] = items  # behind the others
        return item
