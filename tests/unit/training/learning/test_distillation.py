from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.conftest import curve
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.data.manifest import Row
from training.evaluation.evaluate import hypotheses
from training.learning import losses
from training.learning.step import Teacher
from training.learning.train import train
from training.vocabulary import END, PAD, START, UNKNOWN

WORDS = torch.tensor([[[START, 4, UNKNOWN, 6, END], [START, 7, END, PAD, PAD]], [[START, 6, 4, END, PAD]] * 2])
WEIGHTS = torch.tensor([1.0, 0.5])
pytestmark = pytest.mark.usefixtures("exact")


def test_it_expects_a_distribution_for_every_word_that_counts(tiny: Captioner, grid: torch.Tensor) -> None:
    expected = Teacher(tiny).soft_targets(grid, WORDS)
    assert expected.shape == (3 + 2 + 3 + 3, len(tiny.vocabulary)), "an unknown word does not count"
    torch.testing.assert_close(expected.sum(dim=-1), torch.ones(11))
    assert not expected.requires_grad


def test_it_stays_as_it_was(tiny: Captioner, grid: torch.Tensor) -> None:
    teacher = Teacher(tiny)
    before = teacher.soft_targets(grid, WORDS)
    with torch.no_grad():
        tiny.decoder.decoders[0].bias.add_(torch.randn_like(tiny.decoder.decoders[0].bias))
    torch.testing.assert_close(teacher.soft_targets(grid, WORDS), before)


def test_a_share_of_the_loss_is_what_it_expects(
    tiny: Captioner, grid: torch.Tensor, tiny_config: TrainingConfig
) -> None:
    expected = torch.softmax(torch.randn(11, len(tiny.vocabulary)), dim=-1)

    def loss(share: float) -> float:
        config = replace(tiny_config, distillation=share)
        return losses.cross_entropy(
            tiny.decoder, tiny.decoder.prepare(grid), WORDS, WEIGHTS, config, soft_targets=expected
        )[0].item()

    logs = tiny.decoder.logits(tiny.decoder(grid, WORDS[:, :, :-1]).states).log_softmax(dim=-1)
    weight = WEIGHTS[:, None, None].expand(2, 2, 4)[losses.target_mask(WORDS)]
    cross_entropy = -(expected * logs[losses.target_mask(WORDS)]).sum(dim=-1)
    assert loss(1.0) == pytest.approx((cross_entropy * weight).sum().item(), rel=1e-5)
    assert loss(0.0) == pytest.approx(
        losses.cross_entropy(tiny.decoder, tiny.decoder.prepare(grid), WORDS, WEIGHTS, tiny_config)[0].item()
    )
    assert loss(0.25) == pytest.approx(0.75 * loss(0.0) + 0.25 * loss(1.0), rel=1e-5)


def test_who_says_what_it_expects_has_nothing_to_learn_from_it(
    tiny: Captioner, grid: torch.Tensor, tiny_config: TrainingConfig
) -> None:
    expected = Teacher(tiny).soft_targets(grid, WORDS)
    config = replace(tiny_config, distillation=1.0)
    losses.cross_entropy(tiny.decoder, tiny.decoder.prepare(grid), WORDS, WEIGHTS, config, soft_targets=expected)[
        0
    ].backward()
    steepest = max(value.grad.abs().max().item() for value in tiny.decoder.parameters() if value.grad is not None)
    assert steepest < 1e-5


def test_it_does_not_teach_words_that_it_underestimates(
    tiny: Captioner, grid: torch.Tensor, tiny_config: TrainingConfig
) -> None:
    with torch.no_grad():
        tiny.decoder.decoders[0].bias[4] = -50.0
    teacher = Teacher(tiny)
    assert teacher.mask(WORDS).all(), "before it has seen any"
    teacher.measure([(grid, WORDS), (grid, WORDS)])
    assert teacher.underestimated.nonzero().flatten().tolist() == [4]
    # of the targets 4, 6, END; 7, END; 6, 4, END; 6, 4, END those that are 4 or follow it
    taught = [False, True, True] + [True, True] + [True, False, False] * 2
    assert teacher.mask(WORDS).tolist() == taught

    def loss(share: float, taught: torch.Tensor) -> torch.Tensor:
        config, encoded = replace(tiny_config, distillation=share), tiny.decoder.prepare(grid)
        soft = teacher.soft_targets(grid, WORDS)
        return losses.cross_entropy(tiny.decoder, encoded, WORDS, WEIGHTS, config, soft_targets=soft, taught=taught)[0]

    nobody, some, all_ = torch.zeros(11).bool(), torch.tensor(taught), torch.ones(11).bool()
    torch.testing.assert_close(loss(0.5, nobody), loss(0.0, all_))
    assert loss(0.5, all_) < loss(0.5, some) < loss(0.5, nobody), "what it would never say costs less from it"


@pytest.mark.slow
def test_a_captioner_that_learns_on_keeps_to_what_it_said(
    tiny_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    champion = train(coloured_rows, tmp_path / "champion", replace(tiny_config, epochs=30), cache_dir=tmp_path / "c")
    wrong = [replace(row, references=("A blue picture.",)) for row in coloured_rows]

    colours = [row.references[0].split()[1] for row in coloured_rows]
    right = {}
    for share in (0.0, 0.9):
        config = replace(tiny_config, epochs=4, learning_rate=2e-3, distillation=share, seed=2)
        folder = train(
            wrong, tmp_path / str(share), config, start_from=checkpoint.load(champion, "cpu"), cache_dir=tmp_path / "c"
        )
        told = [item.text for item in hypotheses(checkpoint.load(folder), coloured_rows, None, tmp_path / "c")]
        right[share] = sum(colour in text for colour, text in zip(colours, told, strict=True))
    assert right[0.9] == len(coloured_rows)
    assert right[0.0] < len(coloured_rows)


def test_nobody_teaches_who_begins_from_nothing(
    tiny_config: TrainingConfig, coloured_rows: list[Row], tmp_path: Path
) -> None:
    for share in (0.0, 0.5):
        config = replace(tiny_config, epochs=2, distillation=share)
        train(coloured_rows, tmp_path / str(share), config, cache_dir=tmp_path / "cache")
    assert curve(tmp_path / "0.0") == curve(tmp_path / "0.5")
