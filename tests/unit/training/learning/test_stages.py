"""The stages of a training: what each learns, changes and keeps."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from tests.unit.training.conftest import curve
from training.captioner import checkpoint
from training.config import EncoderConfig, TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.decoding.beam_search import Hypothesis
from training.decoding.sampling import Samples
from training.features.features import FULL_SCALE, MIRRORED, SMALL_MIRRORED, Inputs
from training.learning import losses, rewards, trainer
from training.learning.losses import Loss
from training.learning.rewards import Rewards
from training.learning.stages import Stage, stages
from training.learning.train import Progress
from training.learning.train import train as train_captioner
from training.learning.trainer import Trainer
from training.learning.validation import Validator
from training.networks import encoder
from training.networks.decoder import Decoder, EncoderOutput

Train = Callable[..., Path]


@pytest.fixture
def rows(coloured_rows: list[Row]) -> list[Row]:
    return [replace(row, split=manifest.DEV) if "3" in row.image.name else row for row in coloured_rows]


@pytest.fixture
def train(rows: list[Row], tmp_path: Path) -> Train:
    return _training(rows, tmp_path)


@pytest.fixture
def train_alone(rows: list[Row], tmp_path: Path) -> Train:
    """The same without rows to choose an epoch by: the last weights are kept."""
    return _training([row for row in rows if row.split == manifest.TRAIN], tmp_path)


def _training(rows: list[Row], folder: Path) -> Train:
    def run(config: TrainingConfig, name: str = "out", **more: object) -> Path:
        given = {"cache_dir": folder / "cache", "device": "cpu"}
        return train_captioner(rows, folder / name, config, **(given | more))  # type: ignore[arg-type]

    return run


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """The stage and what encoder and decoder are like, at the beginning of each epoch and at its end."""
    told: list[tuple[str, str, str]] = []
    epoch = Trainer.epoch

    def follow(self: Trainer, *arguments: object) -> float:
        parts = self._captioner.encoder.backbone, self._captioner.decoder
        told.append((self._stage.name, *(encoder.state_hash(part) for part in parts)))  # type: ignore[arg-type]
        loss = epoch(self, *arguments)  # type: ignore[arg-type]
        told.append((self._stage.name, *(encoder.state_hash(part) for part in parts)))  # type: ignore[arg-type]
        return loss

    monkeypatch.setattr(Trainer, "epoch", follow)
    return told


def scores_of(folder: Path, rows: list[Row], config: TrainingConfig, cache: Path) -> dict[str, float]:
    captioner, dev = checkpoint.load(folder, "cpu"), [row for row in rows if row.split == manifest.DEV]
    validator = Validator(captioner, Inputs(captioner, dev, cache), dev, config, Stage("train", 1, 1e-3))
    validator.chooses = "dev_cider_d"
    return validator.scores()


def test_the_stages_are_those_that_have_epochs() -> None:
    config = TrainingConfig(epochs=3)
    assert stages(config) == [Stage("train", 3, 1e-3)]
    config = replace(config, frozen_epochs=2, self_critical_epochs=4)
    assert stages(config) == [
        Stage("frozen", 2, 1e-3, frozen=True),
        Stage("train", 3, 2e-4),
        Stage("reward", 4, 3e-4, frozen=True),
    ]
    assert [stage.is_rewarded for stage in stages(config)] == [False, False, True]


def test_decoder_alone_then_both_then_rewards(
    train: Train, tiny_config: TrainingConfig, followed: list[tuple[str, str, str]]
) -> None:
    told: list[Progress] = []
    config = replace(tiny_config, frozen_epochs=2, epochs=2, self_critical_epochs=1)
    out = train(config, progress=told.append)
    expected = [("frozen", 1), ("frozen", 2), ("train", 1), ("train", 2), ("reward", 1)]
    assert [(entry["stage"], entry["epoch"]) for entry in curve(out)] == expected
    assert list(dict.fromkeys((p.phase, p.epoch) for p in told if p.phase != "prepare")) == expected
    encoders = [[one for stage, one, _ in followed if stage == name] for name in ("frozen", "train", "reward")]
    assert len(set(encoders[0])) == 1
    assert len(set(encoders[1])) == 3  # before the first epoch and after each
    assert encoders[1][0] == encoders[0][0]
    assert len(set(encoders[2])) == 1
    decoders = [one for _, _, one in followed]
    assert all(before != after for before, after in zip(decoders[::2], decoders[1::2], strict=True))


def test_human_captions_and_rewards_are_learned_from_two_looks_and_judged_by_all(
    train: Train, tiny_config: TrainingConfig, rows: list[Row], tmp_path: Path
) -> None:
    encoder = EncoderConfig("small_cnn", "none", "none", views=((0.75, False), (1.0, False), (1.5, False)))
    train(replace(tiny_config, encoder=encoder, epochs=1, self_critical_epochs=1))
    learned = {row.sha256 for row in rows if row.split == manifest.TRAIN}
    judged = {row.sha256 for row in rows} - learned
    (index,) = (tmp_path / "cache").glob("grid-*/index")
    kept = {line.split()[0] for line in index.read_text().splitlines()}
    assert kept == judged | {name + look for name in learned for look in (FULL_SCALE, SMALL_MIRRORED)}


def test_augmented_images_are_mirrored_and_shown_in_mixtures_of_two_views(
    train: Train, tiny_config: TrainingConfig, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[torch.Tensor] = []
    show = Inputs.shown

    def follow(self: Inputs, views: list[str]) -> torch.Tensor:
        for view in views:
            shown.append(show(self, [view]))
            assert not torch.equal(shown[-1], self.stored([view]))
        return show(self, views)

    monkeypatch.setattr(Inputs, "shown", follow)
    encoder = EncoderConfig("small_cnn", "none", "none", views=((1.0, False), (1.5, False)))
    config = replace(tiny_config, encoder=encoder, epochs=1, self_critical_epochs=1, augmented=True)
    out = train(config)
    assert [entry["stage"] for entry in curve(out)] == ["train", "reward"]
    learned = {row.sha256 for row in rows if row.split == manifest.TRAIN}
    assert len(shown) == 2 * len(learned)
    (index,) = (tmp_path / "cache").glob("grid-*/index")
    names = {line.split()[0] for line in index.read_text().splitlines()}
    said_of = {row.sha256 for row in rows} - learned
    kinds = [view + side for view in (FULL_SCALE, SMALL_MIRRORED) for side in ("", MIRRORED)]
    assert names == said_of | {name + kind for name in learned for kind in kinds}


@pytest.mark.parametrize("trained", ["none", "all"])
def test_what_an_encoder_tells_is_measured_once(
    trained: Literal["none", "all"], train: Train, tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    config = replace(
        tiny_config,
        encoder=EncoderConfig("small_cnn", "none", trained),
        epochs=2,
    )
    out = train(config)
    before = checkpoint.load(out, "cpu").decoder.decoders[0].standardisation
    assert before.measured
    assert (before.mean.abs().sum() > 0) == (trained == "none")  # what is trained from nothing will change
    assert (len(set(before.spread.tolist())) > 1) == (trained == "none")
    again = (
        checkpoint.load(train(config, "again", start_from=checkpoint.load(out, "cpu")), "cpu")
        .decoder.decoders[0]
        .standardisation
    )
    torch.testing.assert_close(again.spread, before.spread, rtol=0, atol=0)  # what was learned keeps its meaning


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["two_layer_attention", "first_input"])
def test_the_decoders_of_an_ensemble_are_trained_independently(
    train: Train, tiny_config: TrainingConfig, rows: list[Row], tmp_path: Path, architecture: str
) -> None:
    """From human captions, then from rewards, and again from a checkpoint that is to learn new words."""
    decoder = replace(tiny_config.decoder, architecture=architecture, ensemble=2)
    config = replace(tiny_config, decoder=decoder, self_critical_epochs=2, batch_size=6)
    out = train(config)
    told = [entry["loss"] for entry in curve(out) if entry["stage"] == "train"]
    assert told[-1] < 0.7 * told[0]
    captioner = checkpoint.load(out, "cpu")
    one, other = captioner.decoder.decoders
    assert not torch.allclose(one.word.weight, other.word.weight, atol=1e-3)  # type: ignore[union-attr]
    torch.testing.assert_close(one.standardisation.spread, other.standardisation.spread)
    assert all(isinstance(said, Hypothesis) for said in captioner.caption([row.image for row in rows]))
    more = [replace(row, references=(*row.references, "A zebra.")) for row in rows]
    again = train_captioner(
        more,
        tmp_path / "again",
        replace(TrainingConfig.retraining(), epochs=1),
        start_from=captioner,
        cache_dir=tmp_path / "cache",
        device="cpu",
    )
    grown = checkpoint.load(again, "cpu")
    assert "zebra" in grown.vocabulary.words
    assert len(grown.decoder.decoders) == 2
    assert {member.vocabulary_size for member in grown.decoder.decoders} == {len(grown.vocabulary)}


@pytest.mark.parametrize(("members", "each"), [(1, 5), (2, 3), (5, 1)])
def test_decoders_share_the_captions_to_sample_and_each_learns_from_its_own(
    train: Train, tiny_config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, members: int, each: int
) -> None:
    drew: list[Decoder] = []
    learned: list[torch.Tensor] = []
    draw, policy_gradient = trainer.sample_captions, losses.policy_gradient

    def follow_draw(decoder: Decoder, grid: torch.Tensor, config: object, captions: int, *rest: object) -> Samples:
        assert captions == each
        drew.append(decoder)
        return draw(decoder, grid, config, captions, *rest)  # type: ignore[arg-type]

    def follow_policy_gradient(
        decoder: Decoder, encoded: EncoderOutput, words: torch.Tensor, worth: torch.Tensor, *rest: float
    ) -> Loss:
        assert decoder is drew[len(learned)]
        assert words.shape[:2] == worth.shape == (6, each)
        learned.append(worth)
        return policy_gradient(decoder, encoded, words, worth, *rest)

    monkeypatch.setattr(trainer, "sample_captions", follow_draw)
    monkeypatch.setattr(losses, "policy_gradient", follow_policy_gradient)
    monkeypatch.setattr(rewards, "SAMPLES", 5)
    decoder = replace(tiny_config.decoder, ensemble=members)
    train(replace(tiny_config, decoder=decoder, epochs=1, batch_size=6, self_critical_epochs=1))
    assert len(learned) == 2 * members
    for step in range(2):  # each is measured against all others of its image
        together = torch.cat(learned[step * members : (step + 1) * members], dim=1)
        torch.testing.assert_close(together.sum(dim=1), torch.zeros(6), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_rewards_rise(train: Train, tiny_config: TrainingConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    worth: list[float] = []
    of = Rewards.of

    def follow(self: Rewards, hashes: list[str], drawn: Samples) -> torch.Tensor:
        found = of(self, hashes, drawn)
        worth.append(found.mean().item())
        return found

    monkeypatch.setattr(Rewards, "of", follow)
    monkeypatch.setattr(rewards, "LEARNING_RATE", 3e-3)
    out = train(replace(tiny_config, epochs=6, self_critical_epochs=8))
    assert len(worth) == 8 * 3
    assert np.mean(worth[-6:]) > 1.2 * np.mean(worth[:3])
    before, *_, after = (entry for entry in curve(out) if entry["epoch"] >= 6)
    assert {"dev_cider_d", "dev_bleu4"} <= set(after)
    assert "dev_loss" not in after  # rewards do not lower it, and it takes its time
    assert "dev_loss" in before
    assert "dev_cider_d" not in before


@pytest.mark.slow
def test_a_share_of_the_human_captions_keeps_their_likelihood_up(
    train_alone: Train,
    tiny_config: TrainingConfig,
    rows: list[Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rewards, "LEARNING_RATE", 6e-3)
    config = replace(tiny_config, epochs=2, self_critical_epochs=3)

    def loss_at_the_end(share: float) -> float:
        monkeypatch.setattr(rewards, "CROSS_ENTROPY_SHARE", share)
        return scores_of(train_alone(config, str(share)), rows, config, tmp_path / "cache")["dev_loss"]

    assert loss_at_the_end(0.9) < loss_at_the_end(0.0)


@pytest.mark.slow
def test_rewards_that_make_it_worse_are_not_kept(
    train: Train, tiny_config: TrainingConfig, tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after human captions nor where a checkpoint learns from rewards alone."""
    monkeypatch.setattr(rewards, "LEARNING_RATE", 3.0)
    start = train(replace(tiny_config, epochs=25), "start")
    both = train(replace(tiny_config, epochs=25, self_critical_epochs=1), "both")
    alone = replace(tiny_config, epochs=0, self_critical_epochs=1)
    later = train(alone, "later", start_from=checkpoint.load(start, "cpu"))
    before = scores_of(start, rows, tiny_config, tmp_path / "cache")
    for ruined in (both, later):
        assert curve(ruined)[-1]["dev_cider_d"] < before["dev_cider_d"]
        assert scores_of(ruined, rows, tiny_config, tmp_path / "cache") == before


@pytest.mark.parametrize(("chosen_by", "best"), [("loss", min), ("cider_d", max)])
def test_what_was_validated_best_is_kept(
    train: Train,
    tiny_config: TrainingConfig,
    rows: list[Row],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chosen_by: str,
    best: Callable[..., float],
) -> None:
    monkeypatch.setattr(TrainingConfig, "chosen_by", chosen_by)
    config = replace(tiny_config, epochs=6, learning_rate=3e-2)
    out = train(config)
    name = f"dev_{chosen_by}"
    found = scores_of(out, rows, config, tmp_path / "cache")[name]
    assert found == pytest.approx(best(entry[name] for entry in curve(out)), rel=1e-5)


def test_a_start_stays_as_it_was(train: Train, tiny_config: TrainingConfig) -> None:
    start = checkpoint.load(train(replace(tiny_config, epochs=1), "start"), "cpu")
    before = encoder.state_hash(start)
    train(replace(tiny_config, epochs=1, distillation=0.5, self_critical_epochs=1), start_from=start)
    assert encoder.state_hash(start) == before


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["initial_state", "first_input", "every_step", "show_attend_tell"])
def test_every_architecture_learns_the_colours(train: Train, tiny_config: TrainingConfig, architecture: str) -> None:
    config = replace(
        tiny_config, decoder=replace(tiny_config.decoder, architecture=architecture), epochs=20, learning_rate=1e-2
    )
    told = [entry["loss"] for entry in curve(train(config))]
    assert told[-1] < 0.5 * told[0]


@pytest.mark.parametrize("changes", [{"scheduled_sampling": 1.0}, {"label_smoothing": 0.2}, {"captions_per_image": 1}])
def test_every_choice_makes_a_difference(train: Train, tiny_config: TrainingConfig, changes: dict[str, object]) -> None:
    plain = replace(tiny_config, epochs=3)
    one, other = train(plain, "one"), train(replace(plain, **changes), "other")  # type: ignore[arg-type]
    assert curve(one) != curve(other)
    assert all(np.isfinite(entry["loss"]) for entry in curve(other))


def test_tensorboard_has_curves_and_captions(
    train: Train, tiny_config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingConfig, "chosen_by", "cider_d")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = train(replace(tiny_config, epochs=3), tensorboard=tmp_path / "board")
    events = accumulators.EventAccumulator(str(tmp_path / "board")).Reload()
    for name in ("loss", "dev_loss", "dev_cider_d", "dev_bleu4"):
        written = {event.step: event.value for event in events.Scalars(name)}
        assert written == pytest.approx({step: entry[name] for step, entry in enumerate(curve(out), start=1)})
    assert len(events.Tensors("captions/text_summary")) == 3
    [told] = events.Tensors("captions/text_summary")[-1].tensor_proto.string_val
    assert len(told.decode().split("\n\n")) == 4  # dev images


def test_without_tensorboard_nothing_is_written(train: Train, tiny_config: TrainingConfig, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    train(replace(tiny_config, epochs=1))
    assert set(tmp_path.iterdir()) - before == {tmp_path / "out", tmp_path / "cache"}
