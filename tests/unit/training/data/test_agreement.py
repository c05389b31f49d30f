from pathlib import Path

from training.data.agreement import agreed
from training.data.manifest import Row

DOG = ("a dog runs on grass", "my holiday", "a brown dog runs on the grass", "a dog runs in grass", "cute")
CAT = ("the cat sleeps", "a cat sleeps on a bed")


def rows() -> list[Row]:
    others = [Row(Path(f"{number}.jpg"), str(number), (f"a thing number {number}",)) for number in range(5)]
    return [Row(Path("dog.jpg"), "dog", DOG), Row(Path("cat.jpg"), "cat", CAT), *others]


def test_the_captions_stay_that_say_what_the_others_say() -> None:
    assert agreed(rows(), 3)[0].references == (DOG[0], DOG[2], DOG[3])


def test_an_image_with_few_captions_keeps_them() -> None:
    assert agreed(rows(), 3)[1:] == rows()[1:]
    assert agreed(rows(), 5) == rows()


def test_everything_else_of_a_row_stays() -> None:
    row = Row(Path("dog.jpg"), "dog", DOG, "train", 0.5, "7", "near")
    kept = agreed([row, *rows()[1:]], 2)[0]
    assert (kept.sha256, kept.split, kept.weight, kept.image_id, kept.subset) == ("dog", "train", 0.5, "7", "near")
    assert len(kept.references) == 2


def test_captions_that_cannot_be_compared_count_as_they_come() -> None:
    alone = [Row(Path("a.jpg"), "a", ("one", "two", "", "!"))]  # a single image gives no n-gram any weight
    assert agreed(alone, 2)[0].references == ("one", "two")
