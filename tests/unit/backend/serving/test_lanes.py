from __future__ import annotations

from backend.serving.lanes import FEW, Lane, Lanes


def lanes(*waiting: tuple[Lane, str, int]) -> Lanes[str]:
    """So many items of each owner, called after it."""
    made: Lanes[str] = Lanes()
    for lane, owner, number in waiting:
        for place in range(number):
            made.put(f"{owner}{place}", lane, owner)
    return made


def taken(waiting: Lanes[str], number: int) -> list[str]:
    found = [waiting.take() for _ in range(number)]
    return [each[2] for each in found if each]


def test_the_lane_of_a_request() -> None:
    assert [Lane.of(tasks) for tasks in (1, FEW, FEW + 1, 5000)] == [Lane.SMALL, Lane.SMALL, Lane.LARGE, Lane.LARGE]


def test_small_requests_go_first_and_large_ones_take_turns() -> None:
    waiting = lanes((Lane.BACKGROUND, "z", 1), (Lane.LARGE, "a", 3), (Lane.LARGE, "b", 2), (Lane.SMALL, "s", 1))
    assert len(waiting) == 7
    assert taken(waiting, 9) == ["s0", "a0", "b0", "a1", "b1", "a2", "z0"]
    assert waiting.take() is None


def test_large_requests_go_on_while_small_ones_come_all_the_time() -> None:
    waiting = lanes((Lane.SMALL, "s", 100), (Lane.LARGE, "a", 5), (Lane.BACKGROUND, "z", 2))
    first = taken(waiting, 33)
    assert [place for place, item in enumerate(first) if item[0] == "a"] == [3, 7, 11, 15, 20]
    assert [place for place, item in enumerate(first) if item[0] == "z"] == [16, 32]


def test_what_does_not_fit_waits_and_does_not_keep_others_from_their_turn() -> None:
    waiting = lanes((Lane.SMALL, "s", 1), (Lane.LARGE, "a", 1), (Lane.LARGE, "b", 1))
    found = waiting.take(lambda lane, owner: lane == Lane.LARGE and owner == "b")
    assert found == (Lane.LARGE, "b", "b0")
    assert taken(waiting, 3) == ["s0", "a0"]


def test_an_item_can_be_hastened_and_those_of_an_owner_dropped() -> None:
    waiting = lanes((Lane.BACKGROUND, "z", 3), (Lane.LARGE, "a", 2))
    waiting.hasten("z1", Lane.SMALL)
    waiting.drop("a")
    waiting.hasten("unknown", Lane.SMALL)
    assert taken(waiting, 4) == ["z1", "z0", "z2"]
