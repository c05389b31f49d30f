"""A simulated annotator: corrects drafts to human captions, in a house style if asked, and counts the edits."""

from __future__ import annotations

import re
from collections.abc import Sequence

from training.metrics.words import word_edits
from training.vocabulary import tokenize

_ARTICLE = re.compile(r"^(a|an|the)\s+", re.IGNORECASE)
_DOING = re.compile(r"[\s,]+(?:(?:is|are)\s+)?(?=[a-z]{3,}ing\b(?<!thing)(?<!building)(?<!clothing)(?<!string))")


def corrected(draft: str, references: Sequence[str]) -> str:
    """The reference with the smallest edit distance from the draft, relative to the longer of the two."""

    def distance(reference: str) -> float:
        longer = max(len(tokenize(draft)), len(tokenize(reference)), 1)
        return word_edits(draft, reference) / longer

    return min(references, key=distance)


def edits(drafts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Words changed a word of the correction; empty drafts have 1.0."""
    pairs = [(draft, corrected(draft, several)) for draft, several in zip(drafts, references, strict=True)]
    return sum(word_edits(*pair) for pair in pairs) / sum(len(tokenize(correction)) for _, correction in pairs)


def house_style(caption: str) -> str:
    """A caption rewritten by rule: "Photo: two dogs, running on grass".

    Without its first article and its full stop, with "Photo: " before it and a comma, in place of "is" or "are", before
    the first word that ends in "ing".
    """
    text = _ARTICLE.sub("", caption.strip().rstrip(".").strip())
    text = text[:1].lower() + text[1:]
    return "Photo: " + _DOING.sub(", ", text, count=1)


def follows_house_style(draft: str) -> bool:
    """Whether rewriting what follows "Photo: " by the rule would change nothing."""
    prefix, text = draft[:7], draft[7:]
    return prefix == "Photo: " and bool(text) and not draft.endswith(".") and house_style(text) == draft
