from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.retraining.reuse import LearnedCorrections
from backend.store.store import Store
from tests.factories import picture, settings
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.data import manifest
from training.data.manifest import HELD_OUT, TRAIN, Row
from training.gate.gate import Evaluation
from training.vocabulary import Style, Vocabulary


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    """A frozen encoder with random weights, which sees colours."""
    torch.manual_seed(1)
    vocabulary = Vocabulary.build(["a red dot", "a green dot", "a blue dot"], 1)
    decoder, decoding = DecoderConfig(embedding=8, hidden=8, heads=1), DecodingConfig(beam=2, neighbours=1)
    transform = TransformConfig(64)
    made = Captioner(EncoderConfig("small_cnn", "none"), decoder, transform, decoding, vocabulary, Style(False, False))
    pixels = torch.randint(0, 255, (4, 64, 64, 3), dtype=torch.uint8)
    for part in made.decoder.decoders:
        part.standardisation.measure([made.eval().encode(pixels).detach()])
    return made


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """A learned image; held-out ones: itself nearly the same, and another one."""
    made = []
    for number, (colour, split) in enumerate(
        [((250, 0, 0), TRAIN), ((250, 1, 0), HELD_OUT), ((0, 0, 255), HELD_OUT), ((250, 2, 0), HELD_OUT)]
    ):
        path = tmp_path / f"{number}.png"
        path.write_bytes(picture(colour, size=(64, 64)))
        made.append(Row(path, manifest.hash_file(path), (f"caption {number}",), split))
    return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return store


def evaluation(rows: list[Row], captioner: Captioner, seen: list[Any]) -> Evaluation:
    seen.append(captioner.retrieval)
    texts = tuple("its own" for _ in rows)
    return Evaluation("v1", "held out", "hash", "beam", texts, tuple(row.references for row in rows))


def test_images_that_judge_find_learned_corrections_and_never_their_own(
    tmp_path: Path, store: Store, captioner: Captioner, rows: list[Row]
) -> None:
    learned = LearnedCorrections(settings(tmp_path), store, 1, rows)
    held_out, seen = rows[1:], list[Any]()
    found = learned.reused(captioner, held_out, lambda: evaluation(held_out, captioner, seen))
    assert found.hypotheses == ("caption 0", "its own", "caption 0")
    [retrieval] = seen
    assert [bytes(sha).hex() for sha in retrieval.hashes.numpy()] == [rows[0].sha256]
    assert captioner.retrieval is None, "what a retrain starts from stays as it was"
    assert captioner.feature_space
    stored = store.features(1, captioner.feature_space.encoder, [row.sha256 for row in rows])
    assert len(stored) == 4, "serving has them after a promotion"
    alone = LearnedCorrections(settings(tmp_path), store, 1, held_out)
    assert alone.reused(captioner, held_out, lambda: evaluation(held_out, captioner, seen)).hypotheses == (
        ("its own",) * 3
    )


def test_it_is_off_with_the_setting_and_where_the_encoder_is_trained_on(
    tmp_path: Path, store: Store, captioner: Captioner, rows: list[Row]
) -> None:
    seen: list[Any] = []
    off = LearnedCorrections(settings(tmp_path, CAPTIONER_REUSE="off"), store, 1, rows)
    assert set(off.reused(captioner, rows, lambda: evaluation(rows, captioner, seen)).hypotheses) == {"its own"}
    config = replace(captioner.encoder.config, trained="all")
    parts = captioner.decoder.config, captioner.transform, captioner.decoding, captioner.vocabulary, captioner.style
    trained = Captioner(config, *parts)
    on = LearnedCorrections(settings(tmp_path), store, 1, rows)
    assert set(on.reused(trained, rows, lambda: evaluation(rows, trained, seen)).hypotheses) == {"its own"}
    assert seen == [None, None]
