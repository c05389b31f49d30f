"""Tokenisation, the vocabulary, and the spelling style of captions. Standard library only."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.errors import DataError

TOKENIZER = "captioner-1"
"""Names the rules of `tokenize` in every score's signature; rename it when the rules change."""

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")


MARKS = ",;:."
"""Punctuation that a captioner can generate inside a caption. A vocabulary holds those that its annotators use."""
_MARK = re.compile(rf"\s*([{MARKS}])(?=\s)")  # not that of 3.5 or 10:30, nor the full stop at the end


class _Separators(dict[int, int]):
    """Maps a code point to itself if it may be part of a word, else to a space; filled on demand."""

    def __missing__(self, point: int) -> int:
        character = chr(point)
        # Combining marks (category M) are kept because many scripts write vowels with them.
        inside = character.isalnum() or character in "'-" or unicodedata.category(character).startswith("M")
        self[point] = point if inside else ord(" ")
        return self[point]


_SEPARATORS = _Separators({ord("’"): ord("'"), ord("‐"): ord("-"), ord("‑"): ord("-")})


def tokenize(text: str) -> list[str]:
    """Lower-case words of any script; apostrophes and hyphens inside a word are kept, other punctuation is dropped."""
    composed = unicodedata.normalize("NFC", text.lower()).translate(_SEPARATORS).replace("--", " ")
    return [word for part in composed.split() if (word := part.strip("'-"))]


@dataclass(frozen=True)
class Vocabulary:
    """The words a captioner can generate. A word's id is its index in `words`; the first four are `SPECIALS`.

    Those of MARKS that are among the words stand for themselves inside a caption; others are dropped.
    """

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[: len(SPECIALS)] != SPECIALS:
            raise DataError(f"A vocabulary must begin with {', '.join(SPECIALS)}.")
        object.__setattr__(self, "_ids", {word: number for number, word in enumerate(self.words)})
        if len(self._ids) != len(self.words):
            raise DataError("A vocabulary must not hold a word twice.")

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """Words that occur at least `min_count` times, most frequent first; at most `max_size` with the specials."""
        return cls((SPECIALS + _frequent(captions, min_count))[:max_size])

    def extended(self, captions: Iterable[str], min_count: int = 1, marks: str = "") -> Vocabulary:
        """This vocabulary with the new words of the captions and the `marks` appended; known words keep their ids."""
        new = (word for word in (*_frequent(captions, min_count), *marks) if word not in self._ids)
        return Vocabulary(self.words + tuple(new))

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def encode(self, text: str) -> list[int]:
        """The ids of the text's words and marks between START and END; unknown words become UNKNOWN."""
        ids: list[int] = []
        for part in _MARK.split(text.strip()):  # texts and marks in turn
            if part in self._ids and part in MARKS and ids:
                ids.append(self._ids[part])
            else:
                ids += [self._ids.get(word, UNKNOWN) for word in tokenize(part)]
        return [START, *ids, END]

    def decode(self, ids: Iterable[int]) -> str:
        """The words before the first END, without specials; marks stand right after a word."""
        text = ""
        for number in ids:
            if number == END:
                break
            if number >= len(SPECIALS):
                word = self.words[number]
                text += word if word in MARKS or not text else f" {word}"
        return text.rstrip(MARKS)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the name of the tokenizer and the words."""
        return {"tokenizer": TOKENIZER, "words": list(self.words)}

    @classmethod
    def from_json(cls, value: Any) -> Vocabulary:
        """The inverse of `to_json`. Raises DataError for another kind of value or another tokenizer."""
        words = value.get("words") if isinstance(value, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError("The vocabulary is not an object with a list of words.")
        if value.get("tokenizer") != TOKENIZER:
            raise DataError(f"The vocabulary was made by tokenizer {value.get('tokenizer')!r}, not {TOKENIZER!r}.")
        return cls(tuple(words))


@dataclass(frozen=True)
class Style:
    """How annotators write captions: whether with a capital first letter, whether with a full stop, and with which
    MARKS inside."""

    capitalise: bool = False
    full_stop: bool = False
    marks: str = ""

    @classmethod
    def of(cls, captions: Sequence[str]) -> Style:
        """The style of more than half of the captions; scripts without capitals are ignored for `capitalise`.

        Marks are those of at least USUAL of the captions: of what only some annotators write the captioner would make
        a habit.
        """
        texts = [text.strip() for text in captions if text.strip()]
        cased = [text[0] for text in texts if text[0].lower() != text[0].upper()]
        capitals = sum(letter.isupper() for letter in cased)
        stops = sum(text.endswith(_STOPS) for text in texts)
        found = Counter(mark for text in texts for mark in set(_MARK.findall(text)))
        marks = "".join(mark for mark in MARKS if found[mark] >= max(1, USUAL * len(texts)))
        return cls(capitalise=2 * capitals > len(cased), full_stop=2 * stops > len(texts), marks=marks)

    def apply(self, text: str) -> str:
        """The text in this style. An empty text stays empty, and other closing punctuation is kept."""
        text = text.strip()
        if self.capitalise:
            text = _SENTENCE.sub(lambda match: match[0].upper(), text)
        if self.full_stop and text and not text.endswith(_STOPS):
            text += "."
        return text


USUAL = 0.2
"""Share of the captions that must have a mark for it to be part of the style."""
_SENTENCE = re.compile(r"^\w|(?<=\. )\w")
_STOPS = (".", "!", "?", "…", "。", "।")


def _frequent(captions: Iterable[str], min_count: int) -> tuple[str, ...]:
    counts = Counter(word for caption in captions for word in tokenize(caption))
    frequent = [word for word, count in counts.items() if count >= min_count]
    return tuple(sorted(frequent, key=lambda word: (-counts[word], word)))
