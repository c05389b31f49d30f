"""Every architecture, with either cell, alone and as an ensemble."""

import pytest
import torch

from training.config import ARCHITECTURES, DecoderConfig
from training.networks.decoder import DECODERS, Decoder, RecurrentDecoder, build
from training.networks.decoder.dropout import CaptionDropout, Dropout
from training.vocabulary import PAD

ATTENDING = [name for name, kind in DECODERS.items() if kind.attends]
SINGLE = [DecoderConfig(8, 16, 4, architecture, cell) for architecture in ARCHITECTURES for cell in ("lstm", "gru")]  # type: ignore[arg-type]
EVERY = [
    *SINGLE,
    DecoderConfig(8, 16, 4, "two_layer_attention", "gru", ensemble=2),
    DecoderConfig(8, 16, 4, "show_attend_tell", ensemble=2),
    DecoderConfig(8, 16, 4, "initial_state", ensemble=2),
]


def _name(config: DecoderConfig) -> str:
    return f"{config.architecture}-{config.cell}-{config.ensemble}"


every = pytest.mark.parametrize("config", EVERY, ids=_name)
attending = pytest.mark.parametrize("config", [one for one in EVERY if one.architecture in ATTENDING], ids=_name)


def decoder(config: DecoderConfig, words: int = 11) -> Decoder:
    torch.manual_seed(0)
    return build(config, words, channels=6, cells=9).eval()


def test_every_architecture_has_its_decoder() -> None:
    assert set(DECODERS) == set(ARCHITECTURES)
    assert ATTENDING == ["two_layer_attention", "show_attend_tell"]


@every
def test_shapes(config: DecoderConfig) -> None:
    network = decoder(config)
    output = network(torch.randn(2, 9, 6), torch.randint(1, 11, (2, 3, 5)))
    assert output.states.shape == (2, 3, 5, 8 * config.ensemble)
    assert network.logits(output.states).shape == (2, 3, 5, 11)
    assert (output.attention is None) == (config.architecture not in ATTENDING)


@every
def test_captions_do_not_see_each_other(config: DecoderConfig) -> None:
    network, grid = decoder(config), torch.randn(2, 9, 6)
    words = torch.randint(1, 11, (2, 3, 5))
    together = network(grid, words).states
    for image in range(2):
        for caption in range(3):
            alone = network(grid[image : image + 1], words[image : image + 1, caption : caption + 1]).states
            torch.testing.assert_close(together[image, caption], alone[0, 0], rtol=1e-4, atol=1e-5)


@every
def test_no_word_sees_a_later_one(config: DecoderConfig) -> None:
    network, grid = decoder(config), torch.randn(1, 9, 6)
    words = torch.randint(1, 11, (1, 1, 5))
    changed = words.clone()
    changed[..., -1] = changed[..., -1] % 10 + 1
    first, second = network(grid, words).states, network(grid, changed).states
    torch.testing.assert_close(first[:, :, :-1], second[:, :, :-1])
    assert not torch.allclose(first[:, :, -1], second[:, :, -1])


@every
def test_word_by_word_is_the_same_as_all_at_once(config: DecoderConfig) -> None:
    network, grid = decoder(config), torch.randn(2, 9, 6)
    words = torch.randint(1, 11, (2, 3, 5))
    encoded = network.prepare(grid)
    state, steps, attention = network.initial_state(encoded, 3), [], []
    for word in words.split(1, dim=-1):
        output = network.decode(encoded, word, state)
        state = output.state
        steps.append(output.states)
        attention.append(output.attention)
    whole = network(grid, words)
    torch.testing.assert_close(torch.cat(steps, dim=2), whole.states, rtol=1e-4, atol=1e-5)
    if whole.attention is not None:
        torch.testing.assert_close(torch.cat([each for each in attention if each is not None], dim=2), whole.attention)


@every
def test_padding_changes_nothing_of_what_comes_before_it(config: DecoderConfig) -> None:
    network, grid = decoder(config), torch.randn(2, 9, 6)
    words = torch.randint(1, 11, (2, 4, 9))
    lengths = [[9, 1, 4, 2], [3, 0, 8, 5]]
    for image, several in enumerate(lengths):
        for caption, length in enumerate(several):
            words[image, caption, length:] = PAD
    together = network(grid, words)
    assert together.states.isfinite().all()
    for image, several in enumerate(lengths):
        for caption, length in enumerate(several):
            if length:
                alone = network(grid[image : image + 1], words[image : image + 1, caption : caption + 1, :length])
                found = together.states[image, caption, :length]
                torch.testing.assert_close(found, alone.states[0, 0], rtol=1e-4, atol=1e-5)


@every
def test_selected_captions_go_on_from_where_they_were(config: DecoderConfig) -> None:
    network, grid = decoder(config), torch.randn(2, 9, 6)
    words = torch.randint(1, 11, (2, 2, 4))
    encoded = network.prepare(grid)
    state = network.decode(encoded, words[:, :, :3], network.initial_state(encoded, 2)).state
    swapped = network.decode(encoded, words[:, [1, 0], 3:], state.select(torch.tensor([1, 0, 3, 2]))).states
    expected = network(grid, words).states[:, [1, 0], 3:]
    torch.testing.assert_close(swapped, expected, rtol=1e-4, atol=1e-5)


@every
def test_the_image_matters(config: DecoderConfig) -> None:
    network, words = decoder(config), torch.ones(1, 1, 1, dtype=torch.long)
    one, other = (network(torch.randn(1, 9, 6), words).states for _ in range(2))
    assert not torch.allclose(one, other, atol=1e-4)


@attending
def test_where_things_are_matters(config: DecoderConfig) -> None:
    network, grid = decoder(config), torch.randn(1, 9, 6)
    words = torch.ones(1, 1, 1, dtype=torch.long)
    assert not torch.allclose(network(grid, words).states, network(grid.flip(1), words).states, atol=1e-4)


@attending
def test_the_attention_of_every_word_adds_up_to_one(config: DecoderConfig) -> None:
    attention = decoder(config)(torch.randn(2, 9, 6), torch.randint(1, 11, (2, 3, 5))).attention
    assert attention is not None
    assert attention.shape == (2, 3, 5, 9)
    assert attention.min() >= 0
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(2, 3, 5))


@every
def test_gradients_reach_everything(config: DecoderConfig) -> None:
    network = decoder(config)
    for one in network.decoders:
        torch.nn.init.normal_(one.bias)
    states = network(torch.randn(2, 9, 6), torch.randint(1, 11, (2, 3, 5))).states
    network.logits(states).log_softmax(dim=-1)[..., 0].sum().backward()
    # a shift of all keys alike changes no attention, so only weights, not biases, are certain to move
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not still


@every
def test_grow_keeps_what_was_learned(config: DecoderConfig) -> None:
    network, grid = decoder(config), torch.randn(2, 9, 6)
    words = torch.randint(1, 11, (2, 1, 4))
    with torch.no_grad():
        for one in network.decoders:
            one.bias.copy_(torch.arange(11.0))
    before = [one.logits(one(grid, words).states) for one in network.decoders]
    network.grow(14)
    assert network.vocabulary_size == 14
    assert network.logits(network(grid, words).states).shape[-1] == 14
    for one, old in zip(network.decoders, before, strict=True):
        torch.testing.assert_close(one.logits(one(grid, words).states)[..., :11], old)
        assert one.bias[11:].tolist() == [1.0, 1.0, 1.0]  # as unlikely as the rarest tenth
        assert len({tuple(row) for row in one.embedding.weight[11:].tolist()}) == 3
    assert all(value.requires_grad for value in network.parameters())


def test_grow_by_nothing_changes_nothing() -> None:
    (network,) = decoder(DecoderConfig(8, 16, 4)).decoders
    weight = network.embedding.weight
    network.grow(11)
    assert network.embedding.weight is weight


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_ensemble_averages_the_probabilities_of_its_decoders(architecture: str) -> None:
    network, grid = decoder(DecoderConfig(8, 16, 4, architecture, ensemble=3)), torch.randn(2, 9, 6)
    words = torch.randint(1, 11, (2, 3, 5))
    each = [one.logits(one(grid, words).states).softmax(dim=-1) for one in network.decoders]
    assert not torch.allclose(each[0], each[1], atol=1e-3)  # they do not begin alike
    together = network.logits(network(grid, words).states).exp()
    torch.testing.assert_close(together, torch.stack(each).mean(dim=0))


def test_the_attention_of_an_ensemble_is_the_mean_of_its_decoders() -> None:
    network, grid = decoder(DecoderConfig(8, 16, 4, ensemble=3)), torch.randn(2, 9, 6)
    words = torch.randint(1, 11, (2, 3, 5))
    each = [one(grid, words).attention for one in network.decoders]
    torch.testing.assert_close(network(grid, words).attention, sum(each) / 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_only_while_training(architecture: str) -> None:
    torch.manual_seed(0)
    network = build(DecoderConfig(8, 16, 4, architecture), 11, channels=6, cells=9, dropout=0.5)
    grid, words = torch.randn(1, 9, 6), torch.randint(1, 11, (1, 2, 5))
    assert not torch.equal(network(grid, words).states, network(grid, words).states)
    network.eval()
    assert torch.equal(network(grid, words).states, network(grid, words).states)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_images_do_not_share_what_is_dropped(architecture: str) -> None:
    torch.manual_seed(0)
    network = build(DecoderConfig(8, 16, 4, architecture), 11, channels=6, cells=9, dropout=0.5)
    grid, words = torch.randn(1, 9, 6).expand(2, -1, -1), torch.randint(1, 11, (1, 1, 5)).expand(2, -1, -1)
    one, other = network(grid, words).states
    assert not torch.equal(one, other)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_the_share_of_dropped_values_is_p_each_independently(share: float) -> None:
    torch.manual_seed(0)
    values = Dropout(share)(torch.ones(7, 11, 13_001))
    dropped, near = (values == 0).flatten().float(), 4 / values.numel() ** 0.5
    assert dropped.mean().item() == pytest.approx(share, abs=near)
    assert values.mean().item() == pytest.approx(1.0, abs=2 * near)
    assert values.max().item() == pytest.approx(1 / (1 - share), rel=1e-4)
    for apart in (1, 2, 3, 4, 13_001):  # the first three may be of the same random number
        both = (dropped[apart:] * dropped[:-apart]).mean().item()
        assert both == pytest.approx(share**2, abs=near)


@pytest.mark.parametrize("ensemble", [1, 2])
def test_words_and_grid_have_dropout_rates_of_their_own(ensemble: int) -> None:
    torch.manual_seed(0)
    network = build(DecoderConfig(8, 16, 4, ensemble=ensemble), 11, channels=6, cells=9)
    grid, words = torch.randn(1, 9, 6), torch.randint(1, 11, (1, 1, 5))
    for of_words, of_grid, same_grid, same_states in ((0.0, 0.5, False, False), (0.5, 0.0, True, False)):
        network.set_dropout(of_words, of_grid)
        assert torch.equal(network.prepare(grid).pooled, network.prepare(grid).pooled) is same_grid
        assert torch.equal(network(grid, words).states, network(grid, words).states) is same_states


def test_dropout_is_the_same_for_the_same_seed_and_nothing_where_it_is_not_to_be() -> None:
    values = torch.randn(5, 9)
    for dropout in (Dropout(0.5), CaptionDropout(0.5)):
        first, again = (torch.manual_seed(seed) and dropout(values) for seed in (1, 1))
        assert torch.equal(first, again)
        assert not torch.equal(dropout(values), again)
        assert torch.equal(dropout.eval()(values), values)
    assert torch.equal(Dropout(0.0)(values), values)
    assert Dropout(0.5)(values.bfloat16()).dtype == torch.bfloat16


def test_a_caption_has_one_mask_for_all_its_words() -> None:
    torch.manual_seed(0)
    values = CaptionDropout(0.25)(torch.ones(3, 2, 5, 4000))
    kept = values[:, :, 0] > 0
    assert torch.equal(values > 0, kept[:, :, None].expand(values.shape))
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.01)
    assert values.max().item() == pytest.approx(1 / 0.75)  # the mean stays
    assert not torch.equal(kept[0, 0], kept[0, 1])


def standardised(architecture: str = "two_layer_attention") -> RecurrentDecoder:
    (network,) = decoder(DecoderConfig(8, 16, 4, architecture)).decoders
    return network


def test_every_channel_counts_alike_once_it_is_measured() -> None:
    standardisation = standardised().standardisation
    grids = torch.randn(40, 9, 6) * torch.tensor([0.1, 1.0, 2.0, 3.0, 4.0, 5.0]) + torch.arange(6.0)
    torch.testing.assert_close(standardisation(grids), grids)  # nothing is known yet
    standardisation.measure(grids.split(7))
    cells = standardisation(grids).flatten(0, 1)
    torch.testing.assert_close(cells.mean(dim=0), torch.zeros(6), atol=1e-4, rtol=0)
    # the first would be made fourteen times as large, and is not to be by more than ten times what others are
    expected = torch.tensor([0.1 / (0.1 * 15.1 / 6), 1, 1, 1, 1, 1])
    torch.testing.assert_close(cells.std(dim=0), expected, atol=0.05, rtol=0)


def test_a_grid_in_which_nothing_changes_stays_finite() -> None:
    standardisation = standardised().standardisation
    standardisation.measure([torch.full((2, 9, 6), 3.0)])
    torch.testing.assert_close(standardisation(torch.full((1, 9, 6), 4.0)), torch.ones(1, 9, 6))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_how_large_a_channels_numbers_are_does_not_matter_when_standardised(architecture: str) -> None:
    grid, words = torch.randn(4, 9, 6), torch.randint(1, 11, (4, 1, 3))
    states = []
    for scale in (torch.ones(6), torch.tensor([0.01, 0.1, 1.0, 10.0, 100.0, 1000.0])):
        network = standardised(architecture)
        # of so different channels the smallest would be held back
        network.standardisation.measure([grid * scale])
        network.standardisation.spread.copy_((grid * scale).flatten(0, 1).std(dim=0, correction=0))
        states.append(network(grid * scale, words).states)
    torch.testing.assert_close(*states, rtol=1e-3, atol=1e-4)
