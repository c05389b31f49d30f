"""Hints: what a person types of a caption that the captioner is to complete."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from training.vocabulary import MARKS, Style, Vocabulary, joined, tokenize

_DOTS = re.compile(r"\.{2,}|。{2,}|…")
_SEPARATORS = re.compile(r"[,;\n、，،؛；]")
_AROUND = " \t.,;:!?\"'“”„。！？؟「」"
"""What is no part of a word that is asked for."""


@dataclass(frozen=True)
class Hint:
    """How a caption begins, and `phrases` that it has somewhere behind that, all as typed."""

    start: str = ""
    phrases: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Hint:
        """What stands before "..." is how the caption begins, what stands behind it are words that the caption has.

        Without dots a hint that begins with a capital letter is how it begins, and any other one is words that it has.
        Commas separate these; what stands between two stays together. A phrase that the start or another one has
        already asks for nothing more.
        """
        text = text.strip()
        if dots := _DOTS.search(text):
            start, wanted = text[: dots.start()], text[dots.end() :]
        else:
            start, wanted = (text, "") if text[:1].isupper() else ("", text)
        start = " ".join(start.split()) if tokenize(start) else ""
        phrases: list[str] = []
        there = [tokenize(start)]
        typed = [" ".join(part.strip(_AROUND).split()) for part in _SEPARATORS.split(_DOTS.sub(",", wanted))]
        for phrase in sorted(typed, key=lambda one: -len(tokenize(one))):  # a longer one may have a shorter one in it
            words = tokenize(phrase)
            if words and not any(_within(words, others) for others in there):
                phrases.append(phrase)
                there.append(words)
        return cls(start, tuple(sorted(phrases, key=typed.index)))

    def encode(self, vocabulary: Vocabulary) -> tuple[list[int], list[list[int]]]:
        """The ids of the start and of each phrase; unknown words are placeholders, UNKNOWN."""
        return vocabulary.encode(self.start)[1:-1], [vocabulary.encode(phrase)[1:-1] for phrase in self.phrases]

    def caption(self, tokens: Sequence[int], places: Mapping[int, int], vocabulary: Vocabulary, style: Style) -> str:
        """The caption of words that follow the start, in the annotators' style: at the `places` where phrases begin,
        given by their numbers, these stand as typed."""
        text, place = self.start, 0
        while place < len(tokens):
            if place in places:
                part = self.phrases[places[place]]
                place += len(vocabulary.encode(part)) - 2
            else:
                part = vocabulary.words[tokens[place]]
                place += 1
            if part not in MARKS or not text.endswith(tuple(MARKS)):
                text = joined(text, part)
        text = text.rstrip(MARKS)
        small = text.split(" ", 1)[0].islower()  # not iPhone
        return replace(style, capitalise=style.capitalise and small).apply(text)


def _within(words: Sequence[str], others: Sequence[str]) -> bool:
    return any(list(words) == list(others[first : first + len(words)]) for first in range(len(others)))
