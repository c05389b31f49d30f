from __future__ import annotations

import math

from training.selection.disagreement import disagreement


def test_captions_that_say_the_same_do_not_disagree() -> None:
    assert disagreement(["A dog runs.", "a dog runs", "A dog runs ."]) == 0.0


def test_it_is_the_mean_distance_of_pairs_by_words() -> None:
    assert disagreement(["a dog runs", "two men ski downhill"]) == 1.0
    assert math.isclose(disagreement(["a dog runs", "a dog runs", "a dog sits down"]), (0 + 0.5 + 0.5) / 3)


def test_of_one_caption_nothing_is_known() -> None:
    assert math.isnan(disagreement(["a dog"]))
