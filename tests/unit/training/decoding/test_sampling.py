from collections import Counter
from itertools import chain

import pytest
import torch

from training.config import ARCHITECTURES, DecoderConfig, DecodingConfig
from training.decoding.sampling import Samples, nucleus_sampling, sample_captions, sample_words
from training.networks.decoder import Decoder, build
from training.vocabulary import END, PAD, START, UNKNOWN

NEVER = (PAD, START, UNKNOWN)


def decoder(architecture: str = "two_layer_attention", words: int = 9, ensemble: int = 1) -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(embedding=8, hidden=16, heads=2, architecture=architecture, ensemble=ensemble)
    return build(config, words, channels=5, cells=4).eval()


def sampled(network: Decoder, grid: torch.Tensor, captions: int = 4, seed: int = 1, **settings: float) -> Samples:
    config = DecodingConfig(**settings)  # type: ignore[arg-type]
    return sample_captions(network, grid, config, captions, NEVER, torch.Generator().manual_seed(seed))


def test_the_same_seed_draws_the_same_captions() -> None:
    network, grid = decoder(), torch.randn(3, 4, 5)
    first, again, other = (sampled(network, grid, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.words, again.words)
    assert torch.equal(first.log_probabilities, again.log_probabilities)
    assert first.tokens() != other.tokens()


@pytest.mark.parametrize("ensemble", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_log_probabilities_are_those_of_teacher_forcing_whenever_other_images_end(
    architecture: str, ensemble: int
) -> None:
    network, grid = decoder(architecture, ensemble=ensemble), torch.randn(24, 4, 5)
    samples = sampled(network, grid, captions=2)
    ends = {max(len(tokens) for tokens in captions) for captions in samples.tokens()}
    assert len(ends) > 5  # so that many are left out on the way
    before, after = samples.words[:, :, :-1], samples.words[:, :, 1:]
    logs = network.logits(network(grid, before).states).log_softmax(dim=-1)
    each = logs.gather(3, after.unsqueeze(3)).squeeze(3) * (after != PAD)
    torch.testing.assert_close(samples.log_probabilities, each.sum(dim=2), rtol=1e-4, atol=1e-4)


def test_every_caption_begins_ends_and_is_padded() -> None:
    samples = sampled(decoder(), torch.randn(4, 4, 5), captions=20, max_length=6)
    assert samples.words.shape[:2] == (4, 20)
    for caption, tokens in zip(samples.words.flatten(0, 1).tolist(), chain(*samples.tokens()), strict=True):
        rest = len(caption) - len(tokens) - 2
        assert caption == [START, *tokens, END, *[PAD] * rest]
        assert len(tokens) <= 6


def test_what_does_not_end_in_time_ends_there() -> None:
    network = decoder()
    with torch.no_grad():
        network.bias[END] = -20.0
    samples = sampled(network, torch.randn(2, 4, 5), max_length=3)
    assert samples.words.shape == (2, 4, 5)
    assert (samples.words[..., -1] == END).all()
    assert (samples.log_probabilities < -15).all()  # the end is counted at what it was worth


def test_no_caption_is_empty() -> None:
    network = decoder()
    with torch.no_grad():
        network.bias[END] = 20.0
    samples = sampled(network, torch.randn(5, 4, 5))
    assert {len(tokens) for captions in samples.tokens() for tokens in captions} == {1}


def test_special_tokens_are_never_sampled() -> None:
    network = decoder()
    with torch.no_grad():
        network.bias[[PAD, START, UNKNOWN]] = 20.0
    samples = sampled(network, torch.randn(5, 4, 5), captions=20)
    assert not {word for captions in samples.tokens() for tokens in captions for word in tokens} & {*NEVER, END}


def test_words_come_as_often_as_they_are_likely() -> None:
    network, grid = decoder(), torch.randn(1, 4, 5)
    encoded = network.prepare(grid)
    output = network.decode(encoded, torch.tensor([[[START]]]), network.initial_state(encoded, 1))
    allowed = network.logits(output.states)[0, 0, 0]
    allowed[[*NEVER, END]] = float("-inf")  # a caption has at least one word
    samples = sampled(network, grid, captions=4000, max_length=1)
    counts = Counter(tokens[0] for tokens in samples.tokens()[0])
    often = torch.tensor([counts[word] / 4000 for word in range(9)])
    torch.testing.assert_close(often, allowed.softmax(dim=0).detach(), rtol=0, atol=0.03)


def greedy(network: Decoder, grid: torch.Tensor, longest: int) -> tuple[int, ...]:
    """The likeliest word after those before, until that is the end."""
    words: list[int] = []
    while len(words) < longest:
        logits = network.logits(network(grid, torch.tensor([[[START, *words]]])).states)[0, 0, -1].detach()
        logits[[*NEVER, *([] if words else [END])]] = float("-inf")
        if logits.argmax() == END:
            break
        words.append(int(logits.argmax()))
    return tuple(words)


def test_words_of_probability_zero_are_never_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0], [0.0, 0.0, 1e-30, 0.0, 0.0]])
    for drawn, expected in ((0.0, [1, 2]), (0.24, [1, 2]), (0.26, [3, 2]), (1.0, [3, 2])):
        monkeypatch.setattr(torch, "rand", lambda shape, drawn=drawn, **_: torch.full(shape, drawn))
        assert sample_words(probabilities, None).tolist() == expected


def test_the_smallest_nucleus_is_greedy_search() -> None:
    network, grids = decoder(), torch.randn(12, 4, 5)
    with torch.no_grad():
        network.bias[END] = 0.25
    captions = nucleus_sampling(network, grids, DecodingConfig(top_p=1e-6, max_length=7), NEVER)
    expected = [greedy(network, grid.unsqueeze(0), 7) for grid in grids]
    assert [several[0].tokens for several in captions] == expected
    assert len({len(tokens) for tokens in expected}) > 1


def test_a_cold_decoder_is_greedy_and_a_hot_one_is_not() -> None:
    network, grid = decoder(), torch.randn(1, 4, 5)
    cold, hot = (sampled(network, grid, captions=30, temperature=t, max_length=4).tokens()[0] for t in (1e-3, 50.0))
    assert len(set(cold)) == 1
    assert len(set(hot)) > 20


def test_a_nucleus_leaves_unlikely_words_out() -> None:
    network, grid = decoder(), torch.randn(1, 4, 5)
    with torch.no_grad():
        network.bias[4:] = torch.tensor([4.0, 3.5, 0.0, 0.0, 0.0])
        network.bias[END] = -9.0
    everything, nucleus = (sampled(network, grid, 200, top_p=top_p, max_length=3).tokens()[0] for top_p in (0.0, 0.7))
    assert {word for tokens in everything for word in tokens} == {4, 5, 6, 7, 8}
    assert {word for tokens in nucleus for word in tokens} == {4, 5}


def test_the_likeliest_sample_comes_first_and_the_seed_decides() -> None:
    network, grid = decoder(), torch.randn(3, 4, 5)
    first, again, other = (
        nucleus_sampling(network, grid, DecodingConfig(top_p=0.95, seed=seed), NEVER, keep=5) for seed in (1, 1, 2)
    )
    assert first == again != other
    for several in first:
        logs = [one.mean_log_probability for one in several]
        assert logs == sorted(logs, reverse=True)
        assert len(several) == 5
