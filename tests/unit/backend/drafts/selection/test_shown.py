from __future__ import annotations

from datetime import timedelta

import pytest

from backend.drafts.selection.shown import is_over
from backend.store.database import now
from backend.store.drafts.selections import Progress


@pytest.mark.parametrize(
    ("waiting", "annotators", "minutes", "over"),
    [
        (100, 0, None, False),
        (3, 2, 0, False),
        (2, 2, 0, True),
        (0, 0, None, True),
        (10, 2, 9, False),
        (10, 2, 11, True),
        (11, 2, 600, False),
    ],
)
def test_a_selection_is_over_when_all_that_waits_may_be_open_somewhere(
    waiting: int, annotators: int, minutes: float | None, over: bool
) -> None:
    """At those who are at it; or at some who have left, where nobody has got one of the last tenth for ten minutes."""
    labelled_at = None if minutes is None else now() - timedelta(minutes=minutes)
    progress = Progress(100, 0, stored=100, waiting=waiting, annotators=annotators, labelled_at=labelled_at)
    assert is_over(progress) == over
