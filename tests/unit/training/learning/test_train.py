from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import EncoderConfig, TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.decoding.beam_search import Hypothesis
from training.errors import DataError, WeightsError
from training.features import batches
from training.features.features import MIRRORED
from training.learning.train import Progress
from training.learning.train import train as train_captioner
from training.networks.encoder import Encoder
from training.vocabulary import tokenize


@pytest.fixture
def trained(coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path) -> Path:
    return train_captioner(coloured_rows, tmp_path / "trained", tiny_config, cache_dir=tmp_path / "cache", device="cpu")


def captions_of(folder: Path, rows: list[Row]) -> list[str]:
    return [
        item.text
        for item in checkpoint.load(folder, "cpu").caption([row.image for row in rows])
        if isinstance(item, Hypothesis)
    ]


@pytest.mark.slow
def test_learns_what_the_pictures_show(trained: Path, coloured_rows: list[Row]) -> None:
    told = captions_of(trained, coloured_rows)
    colours = [row.image.name.split("-")[0] for row in coloured_rows]
    assert sum(colour in text for colour, text in zip(colours, told, strict=True)) >= 15
    assert all(text[0].isupper() and text.endswith(".") for text in told)
    info = checkpoint.read_info(trained)["extra"]
    assert info["images"] == 16
    assert info["training"]["epochs"] == 20


@pytest.mark.slow
def test_learns_corrections_with_new_words_and_keeps_the_old(
    trained: Path, coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    corrected = [
        replace(row, references=("a scarlet wall",) if "red" in row.image.name else row.references)
        for row in coloured_rows
    ]
    config = replace(tiny_config, epochs=15)
    out = train_captioner(
        corrected,
        tmp_path / "next",
        config,
        start_from=checkpoint.load(trained, "cpu"),
        cache_dir=tmp_path / "cache",
        device="cpu",
    )
    before, after = checkpoint.load(trained, "cpu"), checkpoint.load(out, "cpu")
    assert after.vocabulary.words[: len(before.vocabulary)] == before.vocabulary.words
    assert set(after.vocabulary.words[len(before.vocabulary) :]) == {"scarlet", "wall"}
    told = dict(zip([row.image.name for row in corrected], captions_of(out, corrected), strict=True))
    assert "scarlet" in told["red-1.png"].lower()
    assert "green" in told["green-1.png"].lower()


def test_captions_without_a_word_are_left_out_and_counted(
    coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They would teach silence."""
    first, second, *others = coloured_rows
    rows = [replace(first, references=("...", *first.references)), replace(second, references=("!", "")), *others]
    config = replace(tiny_config, epochs=1)
    for name, learned in (("with", rows), ("without", [first, *others])):
        train_captioner(learned, tmp_path / name, config, cache_dir=tmp_path / "cache", device="cpu")
    found, expected = (checkpoint.read_info(tmp_path / name)["extra"] for name in ("with", "without"))
    assert found["data"] == expected["data"]
    assert found["images"] == 15
    assert "3 of 33 captions have no word and are left out." in caplog.text


def test_same_seed_same_weights(coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        config = replace(tiny_config, epochs=2, dropout=0.2, seed=seed)
        out = train_captioner(coloured_rows, tmp_path / name, config, cache_dir=tmp_path / "cache", device="cpu")
        return load_file(out / "model.safetensors")

    first, second, other = weights("a", 5), weights("b", 5), weights("c", 6)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_frozen_encoder_stays_as_it_was(
    coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    torch.manual_seed(8)
    given = Encoder(EncoderConfig("small_cnn", "none", "none"))
    torch.save(given.backbone.state_dict(), tmp_path / "encoder.pth")
    encoder = EncoderConfig("small_cnn", str(tmp_path / "encoder.pth"), "none")
    config = replace(tiny_config, encoder=encoder, epochs=2)
    out = train_captioner(coloured_rows, tmp_path / "out", config, cache_dir=tmp_path / "cache", device="cpu")
    for name, value in checkpoint.load(out, "cpu").encoder.state_dict().items():
        assert torch.equal(value, given.state_dict()[name])
    assert checkpoint.encoder_of(out).weights == "encoder.pth"
    assert list((tmp_path / "cache").glob("grid-*"))


def test_progress_and_cancelling(coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path) -> None:
    class CancelledError(Exception):
        pass

    told: list[Progress] = []

    def follow(progress: Progress) -> None:
        told.append(progress)
        if progress.epoch == 2 and progress.step == 3:
            raise CancelledError

    with pytest.raises(CancelledError):
        train_captioner(
            coloured_rows, tmp_path / "out", tiny_config, cache_dir=tmp_path / "cache", progress=follow, device="cpu"
        )
    assert not (tmp_path / "out").exists()
    assert told[0] == replace(told[0], phase="prepare", step=0, steps=16, loss=None)
    assert [(p.epoch, p.step, p.steps) for p in told if p.phase == "train"][-1] == (2, 3, 4)
    assert all(p.loss is not None and p.loss > 0 for p in told if p.phase == "train")
    assert [p.seconds for p in told] == sorted(p.seconds for p in told)


def test_dev_rows_choose_the_epoch(coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path) -> None:
    dev = [replace(row, split=manifest.DEV, references=("picture a white is",)) for row in coloured_rows[:4]]
    config = replace(tiny_config, epochs=20)
    out = train_captioner(
        coloured_rows[4:] + dev,
        tmp_path / "out",
        config,
        cache_dir=tmp_path / "cache",
        device="cpu",
    )
    losses = [entry["dev_loss"] for entry in checkpoint.read_info(out)["extra"]["history"]]
    assert losses[-1] > min(losses)  # nonsense on the dev rows gets worse, not better, as captions are learned
    assert checkpoint.read_info(out)["extra"]["dev_loss"] == min(losses)


def test_other_splits_are_not_trained_on(coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path) -> None:
    rows = [*coloured_rows, replace(coloured_rows[0], split=manifest.HELD_OUT, references=("secret",))]
    out = train_captioner(
        rows, tmp_path / "out", replace(tiny_config, epochs=1), cache_dir=tmp_path / "cache", device="cpu"
    )
    assert "secret" not in checkpoint.load(out, "cpu").vocabulary


def test_words_and_style_are_the_annotators(
    coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path
) -> None:
    config, own = replace(tiny_config, epochs=1), ["a red picture", "a blue one"]
    out = train_captioner(
        coloured_rows, tmp_path / "out", config, cache_dir=tmp_path / "c", device="cpu", annotators=own
    )
    assert set(checkpoint.load(out, "cpu").vocabulary.words[4:]) == {"a", "red", "picture", "blue", "one"}
    text = captions_of(out, coloured_rows[:1])[0]
    assert text == text.lower()
    assert not text.endswith(".")


@pytest.mark.parametrize("harm", ["no captions", "no images"])
def test_nothing_to_train_on(coloured_rows: list[Row], tiny_config: TrainingConfig, tmp_path: Path, harm: str) -> None:
    if harm == "no captions":
        rows = [replace(row, references=()) for row in coloured_rows]
    else:
        rows = [replace(row, image=tmp_path / "absent.png", sha256=row.sha256[::-1]) for row in coloured_rows]
    with pytest.raises(DataError, match=r"nothing to train on|can be read"):
        train_captioner(rows, tmp_path / "out", tiny_config, cache_dir=tmp_path / "cache", device="cpu")


def test_absent_weights_stop_before_any_work(coloured_rows: list[Row], tmp_path: Path) -> None:
    config = TrainingConfig.photos("mobilenet_v2", str(tmp_path / "absent.pth"))
    with pytest.raises(WeightsError, match=r"absent\.pth"):
        train_captioner(coloured_rows, tmp_path / "out", config, cache_dir=tmp_path / "cache", device="cpu")
    assert not (tmp_path / "cache").exists()


def test_batches_hold_every_row_once_and_some_of_its_captions(
    tiny: Captioner, coloured_rows: list[Row], tiny_config: TrainingConfig
) -> None:
    config = replace(tiny_config, batch_size=5, captions_per_image=1)
    found = list(batches.batches(coloured_rows, config, tiny, np.random.default_rng(0)))
    assert [len(batch.hashes) for batch in found] == [5, 5, 5, 1]
    assert sorted(sha for batch in found for sha in batch.hashes) == sorted(row.sha256 for row in coloured_rows)
    assert all(batch.words.shape[1] == 1 for batch in found)
    assert [sha for batch in found for sha in batch.hashes] != [row.sha256 for row in coloured_rows]


def test_half_of_the_images_are_turned_but_none_with_a_left_or_right(
    tiny: Captioner, coloured_rows: list[Row], tiny_config: TrainingConfig
) -> None:
    config, chance = replace(tiny_config, augmented=True), np.random.default_rng(0)
    rows = [replace(coloured_rows[0], references=("A dog", "The LEFT of two dogs.")), *coloured_rows[1:]]
    seen = [view for _ in range(40) for batch in batches.batches(rows, config, tiny, chance) for view in batch.keys]
    turned = [view for view in seen if view.endswith(MIRRORED)]
    assert 0.4 < len(turned) / len(seen) < 0.6
    assert rows[0].sha256 + MIRRORED not in turned
    assert {view.removesuffix(MIRRORED) for view in turned} == {row.sha256 for row in rows[1:]}
    judged = [view for batch in batches.batches(rows, config, tiny) for view in batch.keys]
    assert judged == [row.sha256 for row in rows]


def test_endless_captions_are_learned_in_part(
    tiny: Captioner, tiny_config: TrainingConfig, coloured_rows: list[Row]
) -> None:
    row = replace(coloured_rows[0], references=("a picture " * 1000,))
    assert len(tokenize(row.references[0])) == 2000
    batch = next(batches.batches([row], tiny_config, tiny))
    assert batch.words.shape == (1, 1, tiny.decoding.max_length + 2)
