from dataclasses import replace

import pytest
import torch

from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.learning import losses
from training.vocabulary import END, PAD, START, UNKNOWN

ONES = torch.ones(2)
pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def words() -> torch.Tensor:
    return torch.tensor([[[START, 4, 5, 6, END], [START, 7, END, PAD, PAD]], [[START, 6, 4, END, PAD]] * 2])


def value(*arguments: object) -> float:
    total, weight = losses.cross_entropy(*arguments)  # type: ignore[arg-type]
    return (total / weight).item()


def test_it_is_the_mean_cross_entropy_of_every_word(
    tiny: Captioner, grid: torch.Tensor, words: torch.Tensor, tiny_config: TrainingConfig
) -> None:
    total, weight = losses.cross_entropy(tiny.decoder, tiny.decoder.prepare(grid), words, ONES, tiny_config)
    logs = tiny.decoder.logits(tiny.decoder(grid, words[:, :, :-1]).states).log_softmax(dim=-1)
    after = words[:, :, 1:]
    each = -logs.gather(3, after.unsqueeze(3)).squeeze(3)[after != PAD]
    torch.testing.assert_close(total, each.sum())
    assert weight.item() == 12


def test_weights_scale_the_loss_of_their_image(tiny: Captioner, tiny_config: TrainingConfig) -> None:
    grid = torch.randn(2, tiny.encoder.cells(32), 128)
    words = torch.tensor([[[1, 4, 5, 2]], [[1, 6, 2, 0]]])

    def loss(first: float, second: float) -> tuple[float, float]:
        total, weight = losses.cross_entropy(
            tiny.decoder, tiny.decoder.prepare(grid), words, torch.tensor([first, second]), tiny_config
        )
        return total.item(), weight.item()

    (one, words_of_one), (other, words_of_other), (both, words_of_both) = loss(1, 0), loss(0, 1), loss(2, 3)
    assert both == pytest.approx(2 * one + 3 * other)
    assert (words_of_one, words_of_other, words_of_both) == (3, 2, 12)


def test_unknown_words_are_not_learned(tiny: Captioner, tiny_config: TrainingConfig) -> None:
    grid = torch.randn(1, tiny.encoder.cells(32), 128)
    words = torch.tensor([[[START, UNKNOWN, UNKNOWN, END]]])
    assert (
        losses.cross_entropy(tiny.decoder, tiny.decoder.prepare(grid), words, torch.ones(1), tiny_config)[1].item() == 1
    )  # only the end


def test_nothing_but_unknown_words_is_no_loss_and_no_error(tiny: Captioner, tiny_config: TrainingConfig) -> None:
    grid = torch.randn(1, tiny.encoder.cells(32), 128)
    total, weight = losses.cross_entropy(
        tiny.decoder,
        tiny.decoder.prepare(grid),
        torch.tensor([[[START, UNKNOWN, PAD]]]),
        torch.ones(1),
        replace(tiny_config, label_smoothing=0.1),
    )
    total.backward()
    assert (total.item(), weight.item()) == (0, 0)


def test_labels_are_smoothed_only_while_training(
    tiny: Captioner, grid: torch.Tensor, words: torch.Tensor, tiny_config: TrainingConfig
) -> None:
    smoothed = replace(tiny_config, label_smoothing=0.5)
    plain = value(tiny.eval().decoder, tiny.decoder.prepare(grid), words, ONES, tiny_config)
    assert value(tiny.eval().decoder, tiny.decoder.prepare(grid), words, ONES, smoothed) == plain
    assert value(tiny.train().decoder, tiny.decoder.prepare(grid), words, ONES, smoothed) != plain
    assert value(tiny.train().decoder, tiny.decoder.prepare(grid), words, ONES, tiny_config) == pytest.approx(plain)


def test_own_choices_replace_words_but_neither_the_first_nor_padding(
    tiny: Captioner, grid: torch.Tensor, words: torch.Tensor
) -> None:
    with torch.no_grad():
        tiny.decoder.decoders[0].bias[8] = 100.0  # what it always says
    assert torch.equal(losses._with_own_choices(tiny.decoder, tiny.decoder.prepare(grid), words, 0.0), words)
    read = losses._with_own_choices(tiny.decoder, tiny.decoder.prepare(grid), words, 1.0)
    assert torch.equal(read[:, :, 0], words[:, :, 0])
    assert torch.equal(read == PAD, words == PAD)
    assert set(read[:, :, 1:].flatten().tolist()) == {8, PAD}


def test_the_share_of_own_choices_is_the_one_asked_for(tiny: Captioner) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        tiny.decoder.decoders[0].bias[8] = 100.0
    words = torch.full((2, 40, 12), 5)
    read = losses._with_own_choices(
        tiny.decoder, tiny.decoder.prepare(torch.randn(2, tiny.encoder.cells(32), 128)), words, 0.25
    )
    assert (read[:, :, 1:] == 8).float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_own_choices_are_read_but_human_words_are_the_targets(
    tiny: Captioner, grid: torch.Tensor, words: torch.Tensor, tiny_config: TrainingConfig
) -> None:
    with torch.no_grad():
        tiny.decoder.decoders[0].bias[8] = 100.0
    own = losses.cross_entropy(tiny.decoder, tiny.decoder.prepare(grid), words, ONES, tiny_config, 1.0)
    read = torch.where((words != PAD) & (torch.arange(5) > 0), 8, words)
    logs = tiny.decoder.logits(tiny.decoder(grid, read[:, :, :-1]).states).log_softmax(dim=-1)
    after = words[:, :, 1:]
    torch.testing.assert_close(own[0], -logs.gather(3, after.unsqueeze(3)).squeeze(3)[after != PAD].sum())


def test_the_policy_gradient_makes_good_captions_likelier_and_bad_ones_less(
    tiny: Captioner, grid: torch.Tensor
) -> None:
    words = torch.tensor([[[START, 4, 5, END, PAD], [START, 6, 7, 4, END]]] * 2)
    advantages = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])

    def logs() -> torch.Tensor:
        after = words[:, :, 1:]
        said = tiny.decoder.logits(tiny.decoder(grid, words[:, :, :-1]).states).log_softmax(dim=-1)
        return (said.gather(3, after.unsqueeze(3)).squeeze(3) * (after != PAD)).sum(dim=2).detach()

    before = logs()
    total, weight = losses.policy_gradient(tiny.decoder, tiny.decoder.prepare(grid), words, advantages)
    assert weight.item() == 14
    torch.testing.assert_close(total.detach(), -(advantages * before).sum())
    (total / weight).backward()
    torch.optim.SGD(tiny.decoder.parameters(), lr=0.05).step()
    assert torch.equal((logs() - before).sign(), advantages)


def test_captions_as_good_as_the_others_teach_nothing(tiny: Captioner, grid: torch.Tensor) -> None:
    total, _ = losses.policy_gradient(
        tiny.decoder, tiny.decoder.prepare(grid), torch.tensor([[[START, 4, END]] * 2] * 2), torch.zeros(2, 2)
    )
    total.backward()
    assert not any(value.grad.any() for value in tiny.decoder.parameters() if value.grad is not None)


def test_the_policy_gradient_is_of_the_distribution_sampled_from(tiny: Captioner, grid: torch.Tensor) -> None:
    words, advantages = torch.tensor([[[START, 4, END]]] * 2), torch.ones(2, 1)
    logits = tiny.decoder.logits(tiny.decoder(grid, words[:, :, :-1]).states)
    logs = (logits / 0.5).log_softmax(dim=-1).gather(3, words[:, :, 1:, None])
    total, _ = losses.policy_gradient(tiny.decoder, tiny.decoder.prepare(grid), words, advantages, temperature=0.5)
    torch.testing.assert_close(total, -logs.sum())
    assert total.item() != pytest.approx(
        losses.policy_gradient(tiny.decoder, tiny.decoder.prepare(grid), words, advantages)[0].item()
    )
