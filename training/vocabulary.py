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
_CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff\U000e0100-\U000e01ef"
)
"""Chinese and Japanese characters."""
_CLUSTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
"""Thai, Lao, Burmese and Khmer."""
_JOINERS = "\u200c\u200d\u00b7\u05f3\u05f4"
"""What stands inside words of some scripts: zero-width joiners, the dot of Catalan, geresh and gershayim of Hebrew."""
_RULES = {"characters": re.compile(f"[{_CJK}{_CLUSTERS}]"), "joiners": re.compile(f"[{_JOINERS}]")}
"""Rules of `tokenize` that came later, by name, and what they are about."""

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")

_WIDE = "，、；：。"
MARKS = f",;:.،؛{_WIDE}"
"""Punctuation that a captioner can generate inside a caption. A vocabulary holds those that its annotators use."""
# not that of 3.5 or 10:30, nor the full stop at the end
_MARK = re.compile(rf"\s*([{MARKS}])(?:(?=\s)|(?<=[{_WIDE}])(?=\S))")

_EDGES = "'-" + _JOINERS
"""Part of a word inside it, and not at its ends."""


class _Separators(dict[int, int]):
    """Maps a code point to itself if it may be part of a word, else to a space; filled on demand."""

    def __missing__(self, point: int) -> int:
        character = chr(point)
        # Combining marks (category M) are kept because many scripts write vowels with them.
        inside = character.isalnum() or character in _EDGES or unicodedata.category(character).startswith("M")
        self[point] = point if inside else ord(" ")
        return self[point]


_SEPARATORS = _Separators({ord("’"): ord("'"), ord("‐"): ord("-"), ord("‑"): ord("-")})


_OF_LETTER = r"[^\w'\u00b7\u05f3\u05f4-]|[\u0e33\u0eb3]|(?<=[\u1039\u17d2])\w"
"""Part of the character before: a mark above or below it, the vowel am, a consonant that a sign puts below it."""
_TOKEN = re.compile(rf"[{_CJK}{_CLUSTERS}](?:{_OF_LETTER})*|[^{_CJK}{_CLUSTERS}]+")

PIECE = re.compile(rf"[{_CJK}{_CLUSTERS}](?:{_OF_LETTER})*|[^\s{_CJK}{_CLUSTERS}]+\s*")
"""A word of a text as it was typed, with what follows it up to the next one."""


def tokenize(text: str) -> list[str]:
    """Lower-case words of any script; apostrophes and hyphens inside a word are kept, other punctuation is dropped.

    In scripts without blanks between words each character is one, with the marks that belong to it.
    """
    composed = unicodedata.normalize("NFC", text.lower()).translate(_SEPARATORS).replace("--", " ")
    words = [word for part in composed.split() if (word := part.strip(_EDGES))]
    if composed.isascii() or not has_characters(composed):
        return words
    return [token for word in words for part in _TOKEN.findall(word) if (token := part.strip(_EDGES))]


def has_characters(text: str) -> bool:
    """Whether the text has words that are single characters, for their script has no blanks between words."""
    return _RULES["characters"].search(text) is not None


def tokenizer_of(words: Iterable[str]) -> str:
    """The name of the rules that made these words: TOKENIZER, and those of the later rules that they show."""
    text = " ".join(words)
    return "+".join([TOKENIZER, *(name for name, rule in _RULES.items() if rule.search(text))])


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
                text = joined(text, self.words[number])
        return text.rstrip(MARKS)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the name of the tokenizer and the words."""
        return {"tokenizer": tokenizer_of(self.words), "words": list(self.words)}

    @classmethod
    def from_json(cls, value: Any) -> Vocabulary:
        """The inverse of `to_json`. Raises DataError for another kind of value or another tokenizer."""
        words = value.get("words") if isinstance(value, dict) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError("The vocabulary is not an object with a list of words.")
        name, *rules = str(value.get("tokenizer")).split("+")
        if name != TOKENIZER or not _RULES.keys() >= set(rules):
            raise DataError(f"The vocabulary was made by tokenizer {value.get('tokenizer')!r}, not {TOKENIZER!r}.")
        return cls(tuple(words))


def joined(text: str, word: str) -> str:
    """The text with a word or a mark behind it, after a blank where their scripts have one."""
    if not text or word in MARKS:
        return text + word
    last, first = text[-1], word[0]
    return f"{text}{word}" if _TIGHT.match(last + first) else f"{text} {word}"


_TIGHT = re.compile(rf"[{_WIDE}]|[{_CJK}][{_CJK}\d]|\d[{_CJK}]|[{_CLUSTERS}][{_CLUSTERS}]")
"""What stands side by side without a blank: characters, and digits beside Chinese and Japanese ones."""


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
            text += next((stop for stop, script in _STOP_OF.items() if 2 * len(script.findall(text)) > len(text)), ".")
        return text


USUAL = 0.2
"""Share of the captions that must have a mark for it to be part of the style."""
_SENTENCE = re.compile(r"^\w|(?<=\. )\w")
_STOPS = tuple(".!?…。।۔؟！？．")
_STOP_OF = {"。": re.compile(f"[{_CJK}]"), "।": re.compile("[\u0900-\u0a7f]")}
"""Full stops of scripts that have another one than a dot, for texts that are mostly in them."""


def _frequent(captions: Iterable[str], min_count: int) -> tuple[str, ...]:
    counts = Counter(word for caption in captions for word in tokenize(caption))
    frequent = [word for word, count in counts.items() if count >= min_count]
    return tuple(sorted(frequent, key=lambda word: (-counts[word], word)))
