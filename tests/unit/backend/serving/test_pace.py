from __future__ import annotations

from backend.serving.champions import BATCH
from backend.serving.pace import Pace


def test_the_first_batch_is_one_image_and_later_ones_take_half_a_second() -> None:
    pace = Pace()
    assert pace.images == 1
    pace.took(1, 0.1)
    assert pace.images == 5
    pace.took(5, 0.25)
    assert pace.images == 10, "an image of a larger batch takes less"
    pace.took(10, 0.01)
    assert pace.images == BATCH


def test_a_slow_model_computes_one_image_at_a_time() -> None:
    pace = Pace()
    pace.took(1, 7.0)
    assert pace.images == 1


def test_a_batch_that_is_nearly_empty_says_nothing() -> None:
    pace = Pace()
    pace.took(1, 0.05)
    for _ in range(20):
        pace.took(1, 0.4)
    assert pace.images == 10


def test_slower_batches_make_the_next_ones_smaller() -> None:
    pace = Pace()
    pace.took(1, 0.05)
    for _ in range(9):
        pace.took(pace.images, pace.images * 0.25)
    assert pace.images == 2


def test_one_batch_that_had_to_share_the_cores_is_soon_forgotten() -> None:
    pace = Pace()
    pace.took(1, 0.05)
    pace.took(10, 2.5)
    assert pace.images == 5
    pace.took(5, 0.25)
    assert pace.images == 10


def test_a_gpu_takes_full_batches() -> None:
    pace = Pace(unlimited=True)
    pace.took(BATCH, 9.0)
    assert pace.images == BATCH
