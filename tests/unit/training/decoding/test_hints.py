import itertools
import random
from typing import Any

import pytest
import torch

from tests.unit.training.decoding.test_beam_search import NEVER, decoder
from training.captioner.captioner import Captioner
from training.config import DecodingConfig
from training.decoding.constraints import constrained_search
from training.decoding.hints import Hint
from training.networks.decoder import Decoder
from training.vocabulary import END, PAD, START, UNKNOWN, Style, Vocabulary, tokenize

KNOWN = ("a", "red", "blue", "picture", "of", "nothing")
UNKNOWN_WORDS = ("Copacabana", "iPhone", "größer", "3.5", "o'clock", "自転車", "کتاب")


@pytest.mark.parametrize(
    ("typed", "start", "phrases"),
    [
        ("Two children", "Two children", ()),
        ("two children...", "two children", ()),
        ("two  children … ", "two children", ()),
        ("red bus", "", ("red bus",)),
        ("bus, red car", "", ("bus", "red car")),
        ("Two children ... ball, red dog", "Two children", ("ball", "red dog")),
        ("... Eiffel Tower", "", ("Eiffel Tower",)),
        ("A dog, a cat", "A dog, a cat", ()),
        ("bus, red bus, Red Bus, car", "", ("red bus", "car")),
        ("A red bus... bus, car", "A red bus", ("car",)),
        ("“bus”!\ncar; 猫、犬", "", ("bus", "car", "猫", "犬")),
        ("...", "", ()),
        (" , !", "", ()),
        ("", "", ()),
    ],
)
def test_what_stands_before_dots_or_begins_with_a_capital_is_the_start_and_other_words_are_asked_for(
    typed: str, start: str, phrases: tuple[str, ...]
) -> None:
    assert Hint.parse(typed) == Hint(start, phrases)


def within(words: list[str], others: list[str]) -> bool:
    return any(words == others[first : first + len(words)] for first in range(len(others) - len(words) + 1))


@pytest.mark.parametrize("seed", range(3))
def test_a_completed_caption_has_whatever_was_asked_for(tiny: Captioner, seed: int) -> None:
    chance = random.Random(seed)
    torch.manual_seed(seed)

    def some(most: int) -> str:
        return " ".join(chance.choice(KNOWN + UNKNOWN_WORDS) for _ in range(chance.randint(1, most)))

    for _ in range(25):
        start = some(9) if chance.random() < 0.6 else ""
        asked = [some(3) for _ in range(chance.randint(0 if start else 1, 4))]
        pixels: Any = [torch.randint(256, (tiny.side, tiny.side, 3), dtype=torch.uint8).numpy()]
        (found,) = tiny.complete(pixels, f"{start}... {', '.join(asked)}")
        assert found.text[1:].startswith(start[1:])
        assert found.text.lower().startswith(start.lower())
        words = tokenize(found.text)
        for phrase in asked:
            assert within(tokenize(phrase), words)
            assert phrase.lower() in found.text.lower(), "not as typed"
        assert found.text[0] == found.text[0].upper() or found.text.startswith("iPhone")
        assert found.text.endswith(".")
        assert "<" not in found.text
        assert 0 < found.score <= 1
        longest = max(6, len(tokenize(start)) + 6) + sum(len(tokenize(each)) for each in asked)
        assert len(found.tokens) <= longest


def test_without_words_a_hint_is_answered_with_the_draft(tiny: Captioner) -> None:
    pixels: Any = [torch.randint(256, (tiny.side, tiny.side, 3), dtype=torch.uint8).numpy() for _ in range(3)]
    completed, drafts = tiny.complete(pixels, "..."), tiny.caption_pixels(pixels)
    assert [(each.text, each.tokens) for each in completed] == [(each.text, each.tokens) for each in drafts]
    assert tiny.complete([], "red") == []


def log_probabilities(network: Decoder, grid: torch.Tensor, captions: list[tuple[int, ...]]) -> list[float]:
    """Of captions of one length."""
    words = torch.tensor([[[START, *tokens] for tokens in captions]])
    logs = network.logits(network(grid, words).states)[0].log_softmax(dim=-1)  # (K, T, V)
    following = torch.tensor([[*tokens, END] for tokens in captions]).unsqueeze(2)
    return [float(each) for each in logs.gather(2, following).sum(dim=(1, 2))]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ensemble", [1, 2])
def test_a_wide_search_finds_the_best_caption_that_has_the_phrases(seed: int, ensemble: int) -> None:
    network, config = decoder(seed, words=7, ensemble=ensemble), DecodingConfig(beam=64, max_length=2)
    grid = torch.randn(1, 4, 5)
    found = constrained_search(network, grid, config, (), [[5], [UNKNOWN]], start=START, end=END, never=NEVER)
    scores: dict[tuple[int, ...], float] = {}
    for length in range(2, 5):
        having = [
            tokens
            for tokens in itertools.product((UNKNOWN, 4, 5, 6), repeat=length)
            if tokens.count(UNKNOWN) == 1 and 5 in tokens
        ]
        with torch.inference_mode():
            logs = log_probabilities(network, grid, having)
        scores |= {
            tokens: log / (length + 1) ** config.length_penalty for tokens, log in zip(having, logs, strict=True)
        }
    assert found.tokens == max(scores, key=lambda tokens: scores[tokens])
    assert found.ranking_score == pytest.approx(max(scores.values()), abs=1e-4)
    assert found.tokens[next(place for place, phrase in found.places.items() if phrase == 1)] == UNKNOWN


def test_a_phrase_that_comes_by_itself_is_not_said_twice() -> None:
    network, grid = decoder(3), torch.randn(1, 4, 5)
    config = DecodingConfig(beam=5, max_length=6)
    free = constrained_search(network, grid, config, (), [], start=START, end=END, never=NEVER)
    asked = constrained_search(network, grid, config, (), [[free.tokens[0]]], start=START, end=END, never=NEVER)
    assert asked.tokens == free.tokens
    assert asked.places == {0: 0}


def test_the_style_leaves_a_word_as_typed_that_is_not_all_small() -> None:
    vocabulary, style = Vocabulary.build(["a red bus, 3"]).extended([], marks=","), Style(True, True, ",")
    mark, red = vocabulary.encode("a, red")[2:4]
    shown = [
        Hint.parse(typed).caption((mark, red), {}, vocabulary, style)
        for typed in ("iPhone...", "two dogs...", "Paris", "A dog,")
    ]
    assert shown == ["iPhone, red.", "Two dogs, red.", "Paris, red.", "A dog, red."]
    assert Hint("A dog,").caption((), {}, vocabulary, style) == "A dog."
    assert PAD not in Hint.parse("red bus").encode(vocabulary)[1][0]
