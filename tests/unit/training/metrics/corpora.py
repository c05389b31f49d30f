"""Hypotheses with their references: written and generated, with all that scorers stumble over."""

import random

ROWS = [
    ("a brown dog runs over the green grass", ["the brown dog is running over grass", "a dog runs on the green grass"]),
    ("two men sit on a bench", ["two men sit on a bench"]),
    ("", ["a child climbs a ladder", "a girl goes up a red ladder"]),
    ("the the the the dog", ["the dog jumps over the fence", "a dog in mid air", "the white dog leaps"]),
    ("a boy", ["a boy in a blue shirt throws a ball", "a boy plays ball", "child with a ball"]),
    ("zebra", ["people walk along the street"]),
    ("a man rides a bike down a very very steep hill in the deep deep snow", ["a man rides a bike", "a biker"]),
    ("dog", ["dog"]),
    ("a girl in a red dress sings on a stage", ["a girl sings", "a young girl in a red dress sings on the stage"]),
]
"""An empty hypothesis, repeated words, fewer than four words, one reference, nothing in common, far too many words."""

HYPOTHESES = [hypothesis for hypothesis, _ in ROWS]
REFERENCES = [references for _, references in ROWS]

WORDS = ["a", "the", "in", "on", "with", "and", *(f"noun{n}" for n in range(12)), *(f"verb{n}" for n in range(5))]


def generate(seed: int, images: int, shortest: int = 0) -> tuple[list[str], list[list[str]]]:
    """Captions of 1 to 12 words, 1 to 5 an image; hypotheses of `shortest` to 14 words that share some with them."""
    lot = random.Random(seed)
    references = [
        [" ".join(lot.choices(WORDS, k=lot.randint(1, 12))) for _ in range(lot.randint(1, 5))] for _ in range(images)
    ]
    hypotheses = []
    for captions in references:
        kept = lot.choice(captions).split()[: lot.randint(0, 8)]
        length = lot.randint(shortest, 14)
        hypotheses.append(" ".join((kept + lot.choices(WORDS, k=14))[:length]))
    return hypotheses, references


def numbered(hypotheses: list[str], references: list[list[str]]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and hypotheses as pycocoevalcap takes them."""
    return dict(enumerate(references)), {number: [text] for number, text in enumerate(hypotheses)}
