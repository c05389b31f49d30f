from __future__ import annotations

import pytest

from backend.domain.errors import BusyError
from backend.serving.lanes import Lane
from backend.serving.room import MOST, Room


def test_ten_thousand_are_taken_one_after_the_other_and_small_requests_beside_them() -> None:
    room = Room()
    with room.taken(Lane.LARGE, 10_000) as leave:
        with pytest.raises(
            BusyError, match=r"^10,000 images wait for their captions, and at most 10,000 may: ask again"
        ):
            room.taken(Lane.LARGE, 5).__enter__()
        with room.taken(Lane.SMALL, 1), room.taken(Lane.SMALL, 4):
            pass
        leave(600)
        with room.taken(Lane.LARGE, 600):
            pass
    with room.taken(Lane.LARGE, MOST[Lane.LARGE]):
        pass


def test_more_than_may_wait_is_taken_alone() -> None:
    room = Room()
    with room.taken(Lane.LARGE, 50_000), pytest.raises(BusyError), room.taken(Lane.LARGE, 50_000):
        pass
    with room.taken(Lane.LARGE, 50_000):
        pass
