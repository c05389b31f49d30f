"""Scores of captions against references. Standard library and nltk only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.errors import TrainingError
from training.vocabulary import TOKENIZER, tokenize


@dataclass(frozen=True)
class Score:
    """A corpus score from 0 to 100. Two scores may be compared only when their signatures are equal.

    `signature` says how it was computed; `corpus` says on what (pairs, references each) and is for the reader.
    """

    name: str
    value: float
    signature: str
    corpus: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.value:.1f} ({self.signature}|{self.corpus})"

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `Score(**value)` is its inverse."""
        return {"name": self.name, "value": self.value, "signature": self.signature, "corpus": self.corpus}


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], n: int = 4) -> Score:
    """Corpus BLEU-n (Papineni et al., 2002) x100 by nltk, with smoothing method 1 (Chen and Cherry, 2014).

    `references[i]` are the captions of the image that `hypotheses[i]` describes. An empty hypothesis is allowed and
    costs by the brevity penalty. Raises TrainingError for anything nltk would score silently wrong.
    """
    _check(hypotheses, references)
    if n < 1:
        raise TrainingError(f"BLEU needs n of at least 1, not {n}.")
    # Imported here: nltk costs almost a second, and most users of this module count edits.
    import nltk
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

    said = [tokenize(text) for text in hypotheses]
    smoothing = SmoothingFunction().method1
    expected = [[words for text in texts if (words := tokenize(text))] for texts in references]
    # nltk answers 0 with a warning where no word at all matches, whatever the smoothing; so do we, without the noise.
    value = float(corpus_bleu(expected, said, weights=(1 / n,) * n, smoothing_function=smoothing)) if any(said) else 0.0
    counts = sorted({len(texts) for texts in references})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    release = ".".join(nltk.__version__.split(".")[:2])
    return Score(
        name=f"BLEU-{n}",
        value=100 * value,
        signature=f"bleu{n}|nltk:{release}|smooth:method1|tok:{TOKENIZER}",
        corpus=f"refs:{each}|n:{len(said)}",
    )


def word_edits(a: str, b: str) -> int:
    """Words inserted, deleted or replaced to turn one text into the other (Levenshtein, 1966); case is ignored."""
    left, right = tokenize(a), tokenize(b)
    costs = list(range(len(right) + 1))
    for row, word in enumerate(left, start=1):
        diagonal, costs[0] = costs[0], row
        for column, other in enumerate(right, start=1):
            diagonal, costs[column] = (
                costs[column],
                min(costs[column] + 1, costs[column - 1] + 1, diagonal + (word != other)),
            )
    return costs[-1]


def distinct_words(hypotheses: Sequence[str]) -> int:
    """How many different words the hypotheses use: blandness shows here."""
    return len({word for text in hypotheses for word in tokenize(text)})


def mean_length(hypotheses: Sequence[str]) -> float:
    """Words a hypothesis on average; 0 for none."""
    return sum(len(tokenize(text)) for text in hypotheses) / len(hypotheses) if hypotheses else 0.0


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(hypotheses, str) or not all(isinstance(text, str) for text in hypotheses):
        raise TrainingError("Hypotheses must be a list of texts, one for each image.")
    if not hypotheses:
        raise TrainingError("There is nothing to score: the list of hypotheses is empty.")
    if len(hypotheses) != len(references):
        raise TrainingError(f"{len(hypotheses)} hypotheses were given but references of {len(references)} images.")
    for number, texts in enumerate(references):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TrainingError(f"The references of image {number} must be a list of texts, not one text.")
        if not any(tokenize(text) for text in texts):
            raise TrainingError(f"Image {number} has no reference with a word in it.")
