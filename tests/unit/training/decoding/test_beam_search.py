import itertools
import math
from typing import Any

import pytest
import torch

from training.config import ARCHITECTURES, DecoderConfig, DecodingConfig
from training.decoding.beam_search import Candidate, beam_search
from training.networks.decoder import Decoder, DecoderOutput, EncoderOutput, build
from training.networks.decoder.recurrence import Cell
from training.vocabulary import END, PAD, START, UNKNOWN

NEVER = (PAD, START, UNKNOWN)
Tokens = tuple[int, ...]


def decoder(
    seed: int = 0, words: int = 8, architecture: str = "two_layer_attention", cell: Cell = "lstm", ensemble: int = 1
) -> Decoder:
    torch.manual_seed(seed)
    config = DecoderConfig(embedding=8, hidden=16, heads=2, architecture=architecture, cell=cell, ensemble=ensemble)
    network = build(config, words, channels=5, cells=4).eval()
    with torch.no_grad():
        for single in network.decoders:
            single.embedding.weight.mul_(6)  # decided opinions
    return network


def search_several(network: Decoder, grid: torch.Tensor, keep: int, **settings: float) -> list[list[Candidate]]:
    config = DecodingConfig(**settings)  # type: ignore[arg-type]
    return beam_search(network, grid, config, start=START, end=END, never=NEVER, keep=keep)


def search(network: Decoder, grid: torch.Tensor, **settings: float) -> list[Candidate]:
    return [captions[0] for captions in search_several(network, grid, 1, **settings)]


def plain_search(network: Decoder, grid: torch.Tensor, keep: int, config: DecodingConfig) -> list[Tokens]:
    """The same for one grid (1, P, C), by its definition: every beam anew at every word, all of them to the end."""
    beams: list[tuple[float, Tokens]] = [(0.0, ())]
    finished: list[tuple[float, Tokens]] = []
    for length in range(config.max_length + 1):
        words = torch.tensor([[[START, *tokens] for _, tokens in beams]])
        with torch.inference_mode():
            logs = network.logits(network(grid, words).states)[0, :, -1].log_softmax(dim=-1)
            logs[:, NEVER] = float("-inf")
        extended = []
        for (log, tokens), row in zip(beams, logs, strict=True):
            ends = length > 0 and (config.beam > 1 or int(row.argmax()) == END)
            if ends:
                finished.append(((log + float(row[END])) / (length + 1) ** config.length_penalty, tokens))
            if not ends or config.beam > 1:
                extended += [(log + float(row[word]), (*tokens, word)) for word in range(UNKNOWN + 1, len(row))]
        if not extended or length == config.max_length:
            break
        beams = sorted(extended, reverse=True)[: config.beam]
    return [tokens for _, tokens in sorted(finished, reverse=True)[:keep]] or [beams[0][1]]


def log_probability(network: Decoder, grid: torch.Tensor, tokens: Tokens) -> float:
    """Of the whole caption with its end."""
    words = torch.tensor([[[START, *tokens]]])
    with torch.inference_mode():
        logits = network.logits(network(grid, words).states)[0, 0].log_softmax(dim=-1)
    return sum(float(logits[place, token]) for place, token in enumerate([*tokens, END]))


def ranking(
    network: Decoder, grid: torch.Tensor, lengths: tuple[int, ...], penalty: float
) -> list[tuple[Tokens, float]]:
    """All captions of these lengths, best first, with their mean log probabilities."""
    sayable = range(4, network.vocabulary_size)
    every = [tokens for length in lengths for tokens in itertools.product(sayable, repeat=length)]
    logs = {tokens: log_probability(network, grid, tokens) for tokens in every}
    order = sorted(every, key=lambda tokens: -logs[tokens] / (len(tokens) + 1) ** penalty)
    return [(tokens, logs[tokens] / (len(tokens) + 1)) for tokens in order]


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_captions_of_all(seed: int, penalty: float) -> None:
    network, grid = decoder(seed, words=7), torch.randn(1, 4, 5)
    expected = ranking(network, grid, (1, 2, 3), penalty)[:6]
    found = search_several(network, grid, 6, beam=27, length_penalty=penalty, max_length=3)[0]
    assert [one.tokens for one in found] == [tokens for tokens, _ in expected]
    assert [one.mean_log_probability for one in found] == pytest.approx([mean for _, mean in expected], abs=1e-4)
    assert found[0].score == pytest.approx(math.exp(expected[0][1]), abs=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_searched_alike(architecture: str) -> None:
    network, grid = decoder(9, words=6, architecture=architecture), torch.randn(1, 4, 5)
    expected = ranking(network, grid, (1, 2, 3), 0.9)[:3]
    found = search_several(network, grid, 3, beam=8, max_length=3)[0]
    assert [one.tokens for one in found] == [tokens for tokens, _ in expected]


@pytest.mark.parametrize(("ensemble", "cell"), [(1, "gru"), (2, "lstm")])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_is_left_out_because_it_was_computed_no_further(architecture: str, ensemble: int, cell: Cell) -> None:
    network = decoder(12, 10, architecture, cell, ensemble)
    grids = torch.randn(6, 4, 5)
    for beam, keep in ((1, 1), (5, 3), (10, 10)):
        config = DecodingConfig(beam=beam, length_penalty=0.7, max_length=6)
        found = beam_search(network, grids, config, start=START, end=END, never=NEVER, keep=keep)
        expected = [plain_search(network, grid[None], keep, config) for grid in grids]
        assert [[one.tokens for one in captions] for captions in found] == expected


def test_what_cannot_change_the_result_is_computed_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    network, grids = decoder(1), torch.randn(12, 4, 5)
    sizes: list[tuple[int, int]] = []
    decode = network.decode

    def watched(encoded: EncoderOutput, words: torch.Tensor, *others: Any) -> DecoderOutput:
        assert len(encoded.pooled) == len(words)
        sizes.append((words.shape[0], words.shape[1]))
        return decode(encoded, words, *others)

    monkeypatch.setattr(network, "decode", watched)
    search(network, grids, beam=5, max_length=12)
    images = [number for number, _ in sizes]
    assert images == sorted(images, reverse=True)
    assert images[-1] <= 0.8 * images[0] < images[0] == 12, "the images that are finished leave"
    sizes.clear()
    search(network, grids[:1], beam=5, max_length=12)
    beams = [number for _, number in sizes]
    assert (beams[0], max(beams)) == (1, 5), "all beams of an image start alike"
    assert beams[-1] < 5, "and so do beams that are too unlikely"


def test_the_best_does_not_depend_on_how_many_are_asked_for() -> None:
    network, grids = decoder(10), torch.randn(5, 4, 5)
    few, many = (search_several(network, grids, keep, beam=4, max_length=6) for keep in (1, 4))
    assert [captions[0] for captions in few] == [captions[0] for captions in many]
    for captions in many:
        assert len({one.tokens for one in captions}) == len(captions) == 4


def test_no_more_captions_than_there_are() -> None:
    found = search_several(decoder(11, words=6), torch.randn(2, 4, 5), 9, beam=8, max_length=2)
    assert [len({one.tokens for one in captions}) for captions in found] == [6, 6]  # 2 of one word, 4 of two


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_an_image_does_not_depend_on_its_batch(beam: int) -> None:
    network, grids = decoder(1), torch.randn(6, 4, 5)
    together = search_several(network, grids, 3, beam=beam, max_length=7)
    alone = [search_several(network, grid.unsqueeze(0), 3, beam=beam, max_length=7)[0] for grid in grids]
    assert [[one.tokens for one in found] for found in together] == [[one.tokens for one in found] for found in alone]
    assert len({found[0].tokens for found in together}) > 1


def test_the_same_every_time() -> None:
    network, grids = decoder(2), torch.randn(3, 4, 5)
    assert search(network, grids) == search(network, grids)


def test_without_an_end_the_best_unfinished_caption_is_returned() -> None:
    network, grid = decoder(3), torch.randn(2, 4, 5)
    with torch.no_grad():
        network.bias[END] = float("-inf")
    for found in search_several(network, grid, 3, beam=4, max_length=6):
        assert [len(one.tokens) for one in found] == [6]
        assert END not in found[0].tokens
        assert 0 < found[0].score <= 1


def test_no_caption_is_empty() -> None:
    network = decoder(4)
    with torch.no_grad():
        network.bias[END] = 50.0
    found = search_several(network, torch.randn(3, 4, 5), 2)
    assert [len(captions[0].tokens) for captions in found] == [1] * 3
    assert min(len(one.tokens) for captions in found for one in captions) == 1


def test_special_tokens_are_never_generated() -> None:
    network = decoder(5)
    with torch.no_grad():
        network.bias[[PAD, START, UNKNOWN]] = 30.0
    for captions in search_several(network, torch.randn(8, 4, 5), 3, max_length=9):
        assert not any(set(found.tokens) & {PAD, START, UNKNOWN, END} for found in captions)


def test_a_beam_wider_than_the_vocabulary() -> None:
    assert search(decoder(6), torch.randn(2, 4, 5), beam=60, max_length=2)[0].tokens


def test_a_greater_penalty_makes_longer_captions() -> None:
    network, grids = decoder(7), torch.randn(30, 4, 5)
    with torch.no_grad():
        network.bias[END] = 2.0
    lengths = [
        sum(len(found.tokens) for found in search(network, grids, length_penalty=penalty, max_length=12))
        for penalty in (0.0, 2.0)
    ]
    assert lengths[0] < lengths[1]


@pytest.mark.parametrize("seed", range(6))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    network, grid = decoder(seed), torch.randn(1, 4, 5)
    expected: list[int] = []
    while len(expected) < 7:
        scores = network.logits(network(grid, torch.tensor([[[START, *expected]]])).states)[0, 0, -1].detach()
        scores[[*NEVER, *([END] if not expected else [])]] = float("-inf")  # a caption has at least one word
        likeliest = int(scores.argmax())
        if likeliest == END:
            break
        expected.append(likeliest)
    assert search(network, grid, beam=1, max_length=7)[0].tokens == tuple(expected)
