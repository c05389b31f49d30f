import torch

from training.config import DecoderConfig
from training.decoder import Decoder


def decoder(words: int = 11) -> Decoder:
    torch.manual_seed(0)
    return Decoder(DecoderConfig(embedding=8, hidden=16, heads=4), words, channels=6, cells=9).eval()


def test_shapes() -> None:
    network = decoder()
    states = network(torch.randn(2, 9, 6), torch.randint(0, 11, (2, 3, 5)))
    assert states.shape == (2, 3, 5, 8)
    assert network.logits(states).shape == (2, 3, 5, 11)


def test_captions_do_not_see_each_other() -> None:
    network, grid = decoder(), torch.randn(2, 9, 6)
    words = torch.randint(0, 11, (2, 3, 5))
    together = network(grid, words)
    for image in range(2):
        for caption in range(3):
            alone = network(grid[image : image + 1], words[image : image + 1, caption : caption + 1])
            torch.testing.assert_close(together[image, caption], alone[0, 0], rtol=1e-4, atol=1e-5)


def test_no_word_sees_a_later_one() -> None:
    network, grid = decoder(), torch.randn(1, 9, 6)
    words = torch.randint(0, 11, (1, 1, 5))
    changed = words.clone()
    changed[..., -1] = (changed[..., -1] + 1) % 11
    first, second = network(grid, words), network(grid, changed)
    torch.testing.assert_close(first[:, :, :-1], second[:, :, :-1])
    assert not torch.allclose(first[:, :, -1], second[:, :, -1])


def test_word_by_word_is_the_same_as_all_at_once() -> None:
    network, grid = decoder(), torch.randn(2, 9, 6)
    words = torch.randint(0, 11, (2, 3, 5))
    memory = network.look(grid)
    state, steps = network.start(memory, 3), []
    for word in words.split(1, dim=-1):
        states, state = network.read(memory, word, state)
        steps.append(states)
    torch.testing.assert_close(torch.cat(steps, dim=2), network(grid, words), rtol=1e-4, atol=1e-5)


def test_where_things_are_matters() -> None:
    network, grid = decoder(), torch.randn(1, 9, 6)
    words = torch.zeros(1, 1, 1, dtype=torch.long)
    assert not torch.allclose(network(grid, words), network(grid.flip(1), words), atol=1e-4)


def test_grow_keeps_what_was_learned() -> None:
    network = decoder()
    states = torch.randn(4, 8)
    with torch.no_grad():
        network.bias.copy_(torch.arange(11.0))
    before = network.logits(states)
    network.grow(14)
    after = network.logits(states)
    assert network.vocabulary_size == 14
    torch.testing.assert_close(after[:, :11], before)
    assert network.bias[11:].tolist() == [1.0, 1.0, 1.0]  # as unlikely as the rarest tenth
    assert network.embedding.weight.requires_grad
    assert len({tuple(row) for row in network.embedding.weight[11:].tolist()}) == 3


def test_grow_by_nothing_changes_nothing() -> None:
    network = decoder()
    weight = network.embedding.weight
    network.grow(11)
    assert network.embedding.weight is weight
