"""Figures of the benchmarks that train on Flickr8k, without a training."""

from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import benchmarks.trained
from benchmarks import captioners, flickr8k, retraining, rounds, starter
from tests.pictures import Pictures
from training.captioner import checkpoint
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import DEV, TRAIN, Row
from training.decoding.retrieval import RetrievalMemory
from training.errors import CheckpointError
from training.runtime.device import has_bfloat16


def row(number: int, split: str = TRAIN, *captions: str) -> Row:
    return Row(Path(f"{number}.jpg"), f"{number:064x}", captions or (f"picture {number} of a dog",), split)


def test_flickr8k_scores_both_stages_on_development_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[tuple[Path, object]] = []

    def train(rows: Any, out: Path, config: Any, start_from: object, **_: Any) -> Path:
        started.append((out, start_from))
        return out

    def scores(folder: Path, rows: list[Row], _: Path) -> dict[str, float]:
        assert {each.split for each in rows} == {DEV}
        return {
            "bleu4": 10.0 if folder.name == "first" else 12.0,
            "distinct_words": 30 if folder.name == "first" else 20,
        }

    monkeypatch.setattr(benchmarks.trained, "train", train)
    monkeypatch.setattr(benchmarks.trained.checkpoint, "load", lambda folder, _: folder)
    monkeypatch.setattr(flickr8k, "scores", scores)
    monkeypatch.setattr(flickr8k.datasets, "read", lambda *_, **__: [row(1), row(2, DEV)])
    figures = flickr8k.run(tmp_path, tmp_path, TrainingConfig(), TrainingConfig(), "cpu", limit=None)
    assert started == [(tmp_path / "first", None), (tmp_path / "second", tmp_path / "first")]
    assert (figures["first_bleu4"], figures["second_bleu4"]) == (10, 12)
    assert figures["second_over_first_words"] == pytest.approx(2 / 3)


def test_flickr8k_scores_are_of_all_references(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [row(1, DEV, "a dog runs on the grass", "something else"), row(2, DEV, "a cat sleeps on a red chair")]
    captions = {None: ["a dog runs on the grass", "a cat sleeps on a red chair"], "quick": ["a dog", "a dog"]}
    captioner: Any = SimpleNamespace(decoding=SimpleNamespace(quick=lambda: "quick"))
    monkeypatch.setattr(
        flickr8k, "hypotheses", lambda _, __, how, ___: [SimpleNamespace(text=text) for text in captions[how]]
    )
    figures = flickr8k.scores(captioner, rows, tmp_path)
    assert figures["bleu4"] == pytest.approx(100)
    assert figures["alone_bleu4"] < 50
    assert figures["distinct_words"] == 10
    assert figures["mean_length"] == 6.5


def test_captioners_differ_from_the_first_in_one_choice(tmp_path: Path) -> None:
    designs = captioners._designs(tmp_path / "resnet50.pth", tmp_path / "mobilenet.pth", epochs=4)
    first = next(iter(designs.values()))
    for name, config in list(designs.items())[1:]:
        changed = {field.name for field in fields(config) if getattr(config, field.name) != getattr(first, field.name)}
        assert changed in ({"encoder"}, {"decoder"}, {"epochs", "self_critical_epochs"}), name
        assert config.epochs + config.self_critical_epochs == first.epochs, name


def test_retraining_compares_medians() -> None:
    figures = retraining._ratios([10, 11, 90], [12, 11, 13], full_seconds=360)
    assert (figures["retrain_small_seconds"], figures["retrain_large_seconds"]) == (11, 12)
    assert figures["base_size_ratio"] == pytest.approx(12 / 11)
    assert figures["full_over_incremental"] == 30


def test_rounds_tells_clean_rounds_from_the_poisoned_one() -> None:
    def done(name: str, promotes: bool, seconds: float) -> Any:
        return SimpleNamespace(name=name, verdict=SimpleNamespace(promotes=promotes), seconds=seconds)

    names = ["1", "2", "3", "poisoned", "4", "5"]
    figures = rounds._promotions([done(name, name in {"1", "3", "4"}, index) for index, name in enumerate(names)])
    assert (figures["promoted"], figures["poisoned_promoted"]) == (3, 0)
    assert figures["clean_after_poison_promoted"] == 1
    assert figures["retrain_seconds"] == 5


def test_rounds_chooses_by_a_tenth_of_the_images_of_any_round() -> None:
    rows = [rounds._split(row(number * 2**245)) for number in range(1000)]
    assert 0.05 < sum(each.split == DEV for each in rows) / len(rows) < 0.15
    data = rounds._retraining_data(rows[:400], rows[400:700], rows[700:])
    for learned in (data.new, data.known, data.base):
        assert {each.split for each in learned} == {manifest.TRAIN}
    assert {each.split for each in data.choosing} == {DEV}
    assert set(data.choosing) <= set(rows[:700])


def test_the_starter_keeps_nothing_of_single_images_and_has_its_figures_on_its_card(
    pictures: Pictures, tmp_path: Path
) -> None:
    captioner = checkpoint.load(pictures.captioner, "cpu")
    rows = [replace(each, split=DEV) for each in pictures.rows[:12]]
    grids = torch.randn(12, captioner.encoder.channels)
    captioner.retrieval = RetrievalMemory.build(rows, grids, captioner.vocabulary, 9)
    folder = starter.pack(captioner, tmp_path / "starter", {"recipe": "lite2"})
    figures, signatures = starter.measured(folder, rows, tmp_path / "cache")
    assert figures["cider_d"] > 0
    usual = set() if has_bfloat16(torch.device("cpu")) else {"draft_ms", "images_a_second"}
    assert figures.keys() | {"train_seconds"} | usual == starter.MEANINGS.keys()
    assert (folder / "model.safetensors").stat().st_mode & 0o044 == 0o044, "not for its owner alone"
    held = load_file(folder / "model.safetensors")
    assert held.keys() == captioner.state_dict().keys()
    assert {value.dtype for value in held.values() if value.is_floating_point()} == {torch.float16}
    card = starter.card("lite2", captioner, rows, figures, signatures)
    for part in (f"| CIDEr-D | {figures['cider_d']:.1f} | `{signatures[1]}` |", "--recipe lite2", "non-commercial"):
        assert part in card
    (folder / "vocabulary.json").write_text("{}")
    with pytest.raises(CheckpointError, match="SHA256SUMS lists another vocabulary"):
        checkpoint.load(folder, "cpu")


@pytest.mark.parametrize("stages", starter.RECIPES.values(), ids=starter.RECIPES)
def test_a_recipe_of_the_starter_is_for_a_frozen_encoder_without_retrieval(stages: Any) -> None:
    first, second = (each.validate() for each in stages())
    assert (first.encoder.trained, first.decoding.neighbours) == ("none", 0)
    assert second.epochs == 0 < second.self_critical_epochs
