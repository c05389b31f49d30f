import itertools
import math

import pytest
import torch

from training.config import DecoderConfig, DecodingConfig
from training.decoder import Decoder
from training.decoding import Found, beam_search

PAD, START, END, UNKNOWN = 0, 1, 2, 3
SETTINGS = {"start": START, "end": END, "never": (PAD, START, UNKNOWN)}


def decoder(seed: int = 0, words: int = 8) -> Decoder:
    torch.manual_seed(seed)
    network = Decoder(DecoderConfig(embedding=8, hidden=16, heads=2), words, channels=5, cells=4).eval()
    with torch.no_grad():
        network.embedding.weight.mul_(6)  # decided opinions
    return network


def search(network: Decoder, grid: torch.Tensor, **settings: float) -> list[Found]:
    return beam_search(network, grid, DecodingConfig(**settings), **SETTINGS)  # type: ignore[arg-type]


def log_probability(network: Decoder, grid: torch.Tensor, tokens: tuple[int, ...]) -> float:
    """Of the whole caption with its end."""
    words = torch.tensor([[[START, *tokens]]])
    with torch.inference_mode():
        logits = network.logits(network(grid, words))[0, 0].log_softmax(dim=-1)
    return sum(float(logits[place, token]) for place, token in enumerate([*tokens, END]))


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_wide_beam_finds_the_best_of_all_captions(seed: int, penalty: float) -> None:
    network, grid = decoder(seed, words=7), torch.randn(1, 4, 5)
    sayable = range(4, 7)
    every = [tokens for length in (1, 2, 3) for tokens in itertools.product(sayable, repeat=length)]
    scores = {tokens: log_probability(network, grid, tokens) / (len(tokens) + 1) ** penalty for tokens in every}
    best = max(scores, key=lambda tokens: scores[tokens])
    found = search(network, grid, beam=27, length_penalty=penalty, max_length=3)[0]
    assert found.tokens == best
    expected = log_probability(network, grid, best) / (len(best) + 1)
    assert found.mean_log_probability == pytest.approx(expected, abs=1e-4)
    assert found.score == pytest.approx(math.exp(expected), abs=1e-4)


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_an_image_does_not_depend_on_its_batch(beam: int) -> None:
    network, grids = decoder(1), torch.randn(6, 4, 5)
    together = search(network, grids, beam=beam, max_length=7)
    alone = [search(network, grid.unsqueeze(0), beam=beam, max_length=7)[0] for grid in grids]
    assert [found.tokens for found in together] == [found.tokens for found in alone]
    assert len({found.tokens for found in together}) > 1


def test_the_same_every_time() -> None:
    network, grids = decoder(2), torch.randn(3, 4, 5)
    assert search(network, grids) == search(network, grids)


def test_without_an_end_the_best_unfinished_caption_is_told() -> None:
    network, grid = decoder(3), torch.randn(2, 4, 5)
    with torch.no_grad():
        network.bias[END] = -1e9
    for found in search(network, grid, beam=4, max_length=6):
        assert len(found.tokens) == 6
        assert END not in found.tokens
        assert 0 < found.score <= 1


def test_at_least_one_word() -> None:
    network = decoder(4)
    with torch.no_grad():
        network.bias[END] = 50.0
    assert [len(found.tokens) for found in search(network, torch.randn(3, 4, 5))] == [1, 1, 1]


def test_specials_are_never_said() -> None:
    network = decoder(5)
    with torch.no_grad():
        network.bias[[PAD, START, UNKNOWN]] = 30.0
    for found in search(network, torch.randn(8, 4, 5), max_length=9):
        assert not set(found.tokens) & {PAD, START, UNKNOWN, END}


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
