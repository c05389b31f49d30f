from dataclasses import replace

import pytest
import torch

from training.data.manifest import Row
from training.decoding.sampling import Samples
from training.learning.rewards import Rewards, advantages
from training.vocabulary import END, PAD, START, Vocabulary


def test_a_caption_is_measured_by_the_mean_of_the_others() -> None:
    found = advantages(torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]]))
    assert found.tolist() == [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("samples", [2, 5])
def test_advantages_add_up_to_nothing(samples: int) -> None:
    torch.testing.assert_close(advantages(torch.rand(3, samples)).sum(dim=1), torch.zeros(3))


def drawn(vocabulary: Vocabulary, captions: list[list[str]]) -> Samples:
    ids = [[[START, *vocabulary.encode(text)[1:-1], END] for text in several] for several in captions]
    longest = max(len(one) for several in ids for one in several)
    words = torch.tensor([[one + [PAD] * (longest - len(one)) for one in several] for several in ids])
    return Samples(words, torch.zeros(words.shape[:2]))


@pytest.fixture
def vocabulary(coloured_rows: list[Row]) -> Vocabulary:
    return Vocabulary.build([text for row in coloured_rows for text in row.references])


def test_right_is_worth_more_than_wrong_and_whole_more_than_broken_off(
    coloured_rows: list[Row], vocabulary: Vocabulary
) -> None:
    rewards = Rewards(coloured_rows, vocabulary)
    said = ["This is a picture in red.", "This is a picture in blue.", "This is a picture in", "This is a"]
    right, wrong, without_noun, without_more = rewards.of([coloured_rows[0].sha256], drawn(vocabulary, [said]))[0]
    assert right > wrong >= 0
    assert right > without_noun >= without_more


def test_broken_off_is_worth_less_though_its_words_are_all_right(
    coloured_rows: list[Row], vocabulary: Vocabulary
) -> None:
    rows = [replace(row, references=("a picture all in red it is",)) for row in coloured_rows[:1]] + coloured_rows[1:]
    words = Vocabulary.build([text for row in rows for text in row.references])
    rewards = Rewards(rows, words)
    whole, broken = rewards.of([rows[0].sha256], drawn(words, [["a picture all in red it is", "a picture all in"]]))[0]
    assert whole > 2 * broken


def test_each_caption_is_held_against_its_own_image(coloured_rows: list[Row], vocabulary: Vocabulary) -> None:
    rewards = Rewards(coloured_rows, vocabulary)
    hashes = [coloured_rows[place].sha256 for place in (2, 0)]  # blue, red
    found = rewards.of(hashes, drawn(vocabulary, [["a red picture", "a blue picture"]] * 2))
    assert found.shape == (2, 2)
    assert found[0, 1] > found[0, 0]
    assert found[1, 0] > found[1, 1]
    torch.testing.assert_close(found[0, 1], found[1, 0])


def test_saying_nothing_is_worth_next_to_nothing(coloured_rows: list[Row], vocabulary: Vocabulary) -> None:
    rewards = Rewards(coloured_rows, vocabulary)
    nothing, right = rewards.of([coloured_rows[0].sha256], drawn(vocabulary, [["", "a red picture"]]))[0]
    assert nothing < 0.1 * right
