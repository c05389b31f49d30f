from dataclasses import replace
from pathlib import Path

import pytest

from training.captioner import checkpoint
from training.config import TrainingConfig
from training.continual.mismatch import ImageTextMatch, image_text_match, mismatch
from training.data.manifest import Row
from training.learning.train import train


@pytest.mark.slow
def test_captions_of_other_images_are_told_from_those_of_their_own(
    tiny_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    captioner = checkpoint.load(train(coloured_rows, tmp_path / "out", tiny_config, cache_dir=cache))
    told: list[tuple[int, int]] = []
    right = image_text_match(captioner, coloured_rows, cache, lambda done, total: told.append((done, total)))
    assert right.captions == len(coloured_rows)
    assert right.own >= 10, "the other images of some are of the same colour"
    assert told[-1] == (16, 16)
    following = [*coloured_rows[1:], coloured_rows[0]]  # off by one: no image is of the colour it is said to be
    moved = [replace(row, references=other.references) for row, other in zip(coloured_rows, following, strict=True)]
    wrong = image_text_match(captioner, moved, cache)
    assert wrong.own <= 8
    assert image_text_match(captioner, coloured_rows, cache) == right, "nothing is left to chance"


def test_captions_with_unknown_words_and_single_images_say_nothing(
    tiny_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    config = replace(tiny_config, epochs=1)
    captioner = checkpoint.load(train(coloured_rows, tmp_path / "out", config, cache_dir=tmp_path / "cache"))
    strange = [replace(row, references=("A crimson picture.",)) for row in coloured_rows]
    assert image_text_match(captioner, [*strange, coloured_rows[0]], tmp_path / "cache") == ImageTextMatch(0, 0)
    assert image_text_match(captioner, [], tmp_path / "cache") == ImageTextMatch(0, 0)


@pytest.mark.parametrize(
    ("new", "trusted", "doubted"),
    [
        ((449, 228), (400, 380), True),
        ((449, 420), (400, 380), False),
        ((450, 336), (400, 380), False),  # half of them misplaced: nearer to the trusted ones
        ((10, 5), (400, 380), False),  # too few to say
        ((40, 20), (400, 380), True),
        ((449, 228), (5, 5), False),  # too few to trust
        ((449, 228), (400, 210), False),  # a captioner that cannot tell
        ((0, 0), (400, 380), False),
        ((40, 0), (0, 0), False),
    ],
)
def test_what_is_surely_nearer_to_chance_is_doubted(
    new: tuple[int, int], trusted: tuple[int, int], doubted: bool
) -> None:
    said = mismatch(ImageTextMatch(*new), ImageTextMatch(*trusted))
    assert (said is not None) is doubted
    if said:
        assert said.startswith(f"{new[1]} of {new[0]} new captions are likelier beside their own image than beside")


@pytest.mark.parametrize(("captions", "own"), [(1, 0), (1, 1), (50, 25), (1000, 950)])
def test_bounds_lie_on_both_sides_of_the_share(captions: int, own: int) -> None:
    found = ImageTextMatch(captions, own)
    assert 0 <= found.bound(-1) <= own / captions <= found.bound(1) <= 1
    assert ImageTextMatch(10 * captions, 10 * own).bound(1) <= found.bound(1)
    assert ImageTextMatch(50, 25).bound(1) == pytest.approx(0.634, abs=1e-3)  # Wilson's interval of 25 in 50
