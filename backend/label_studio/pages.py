"""Reads tasks where Label Studio cannot serve every one.

It stores what it cannot write, such as half a character, and then answers 500 to every page with that task. Smaller
pages are asked for until such a task stands alone. It is left out, and its id is added to `unreadable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from backend.domain.errors import LabelStudioError, LabelStudioRefusalError

FAILED = 500
FARTHEST = 2**40  # no gap between two ids is wider

Page = tuple[list[Any], int]
"""Tasks in order of id, and how many there are from the first of them on."""

AskAfter = Callable[[int, int | None, int], Page]
"""The first tasks with an id greater than the first number and, where there is a second, not greater than that; the
third is how many at most."""


def pages(ask: AskAfter, after: int, size: int, unreadable: set[int]) -> Iterator[Page]:
    """Pages of the tasks after that id, up to the first without any.

    Raises LabelStudioError where the same ones come again, or it would never end, and where there are said to be tasks
    and none comes, or they would all be taken for deleted.
    """
    begun = False
    doubtful = 0  # one of the next so many tasks cannot be served
    while True:
        most = max(doubtful // 2, 1) if doubtful else size
        try:
            page = ask(after, None, most)
        except LabelStudioRefusalError as error:
            if error.status != FAILED:
                raise
            doubtful = most
            if most == 1:
                after, doubtful = _next(ask, after, error), 0
                unreadable.add(after)
            continue
        if page[0] and page[0][0]["id"] <= after:
            raise LabelStudioError(f"Label Studio answered task {page[0][0]['id']} to a question for later ones.")
        if not begun and not page[0] and page[1]:
            raise LabelStudioError(f"Label Studio answered that there are {page[1]} tasks, and gave none.")
        begun = True
        yield page
        if not page[0]:
            return
        after, doubtful = page[0][-1]["id"], max(doubtful - len(page[0]), 0)


def by_id(ask: Callable[[Sequence[int]], list[Any]], ids: Sequence[int], unreadable: set[int]) -> list[Any]:
    """The tasks with these ids."""
    try:
        return ask(ids)
    except LabelStudioRefusalError as error:
        if error.status != FAILED:
            raise
    if len(ids) == 1:
        unreadable.update(ids)
        return []
    half = len(ids) // 2
    return by_id(ask, ids[:half], unreadable) + by_id(ask, ids[half:], unreadable)


def _next(ask: AskAfter, after: int, error: LabelStudioRefusalError) -> int:
    """The id of the next task, which cannot be served: Label Studio serves the ids before it, for there is nothing.

    Raises `error` where it does not serve even nothing, so that no task is the cause.
    """

    def is_empty(last: int) -> bool:
        try:
            return not ask(after, last, 1)[0]
        except LabelStudioRefusalError as refusal:
            if refusal.status != FAILED:
                raise
            return False

    if not is_empty(after):
        raise error
    step = 1
    while is_empty(after + step):
        if step > FARTHEST:
            raise error
        step *= 2
    low, high = after + step // 2, after + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_empty(middle) else (low, middle)
    return high
