"""A score and what it may be compared with; texts before they are scored: checked and split into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.errors import TrainingError
from training.vocabulary import tokenize, tokenizer_of


class MetricUnavailableError(TrainingError):
    """A metric needs something this machine lacks; the message says what to install."""


@dataclass(frozen=True)
class Score:
    """A corpus score x100. Two scores may be compared only when their signatures are equal.

    `value` is from 0 to 100, of CIDEr-D from 0 to 1000. `signature` says how it was computed; `corpus` says on what
    (references each, pairs) and is for the reader.
    """

    name: str
    value: float
    signature: str
    corpus: str = ""


def split(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[list[list[str]], list[list[list[str]]]]:
    """The words of each hypothesis and of each image's references; references without a word are left out.

    An empty hypothesis is allowed: a captioner that says nothing is to be scored. Raises TrainingError for anything
    that would be scored silently wrong, such as an image without any reference with a word.
    """
    if not _are_texts(hypotheses):
        raise TrainingError("Hypotheses must be a list of texts, one for each image.")
    if not hypotheses:
        raise TrainingError("There is nothing to score: the list of hypotheses is empty.")
    if not isinstance(references, Sequence):
        raise TrainingError("References must be a list with the texts of each image.")
    if len(hypotheses) != len(references):
        raise TrainingError(f"{len(hypotheses)} hypotheses were given but references of {len(references)} images.")
    for number, texts in enumerate(references):
        if not _are_texts(texts):
            raise TrainingError(f"The references of image {number} must be a list of texts, not one text.")
        if not any(tokenize(text) for text in texts):
            raise TrainingError(f"Image {number} has no reference with a word in it.")
    tokens = [tokenize(text) for text in hypotheses]
    expected = [[words for text in texts if (words := tokenize(text))] for texts in references]
    return tokens, expected


def corpus_score(name: str, value: float, signature: str, references: Sequence[Sequence[str]]) -> Score:
    """The score of texts that were `split`. Its corpus is references an image and pairs, such as `refs:5|n:1000`."""
    counts = sorted({len(texts) for texts in references})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    unusual = (word for texts in references for text in texts if not text.isascii() for word in tokenize(text))
    return Score(name, value, f"{signature}|tok:{tokenizer_of(unusual)}", f"refs:{each}|n:{len(references)}")


def _are_texts(texts: Any) -> bool:
    return isinstance(texts, Sequence) and not isinstance(texts, str) and all(isinstance(text, str) for text in texts)
