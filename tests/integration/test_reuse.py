"""Corrections are reused by a captioner with a frozen encoder: in its retrain, in the gate and in serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backend import jobs
from backend.domain.corrections import Draft
from backend.images.cache import Images
from backend.serving.drafting import Drafting
from backend.serving.reuse import Reuse
from backend.store.registry import DEFAULT, ModelVersion
from backend.store.retrains import DONE
from tests.factories import task
from tests.fakes import Answer
from tests.integration.conftest import Loop
from training.captioner import checkpoint
from training.config import TrainingConfig
from training.learning.train import train


@pytest.mark.timeout(300)
def test_corrections_are_reused_by_a_captioner_with_a_frozen_encoder(
    make_loop: Callable[..., Loop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = make_loop(CAPTIONER_BLIND_SHARE="0", CAPTIONER_GATE_MARGIN="100")
    for variable, value in loop.settings.to_env().items():
        monkeypatch.setenv(variable, value)
    usual = TrainingConfig.retraining
    monkeypatch.setattr(TrainingConfig, "retraining", lambda *given: usual(*given, epochs=1))
    starter = TrainingConfig.starter(epochs=1)
    decoding = replace(starter.decoding, neighbours=1)
    config = replace(starter, encoder=replace(starter.encoder, trained="none"), decoding=decoding)
    train(loop.pictures.rows[:30], tmp_path / "frozen", config, cache_dir=tmp_path / "cache", device="cpu")
    loop.registry.register(ModelVersion("frozen", tmp_path / "frozen"))
    loop.registry.promote(DEFAULT, "frozen", "for a test", "test")

    corrected = [*loop.pictures.new(held_out=False)[:25], *loop.pictures.new(held_out=True)[:3]]
    loop.correct(corrected)
    requested = loop.store.request_retrain(1, asked=True, every=1000)
    assert requested
    jobs.retrain(requested.id)
    [retrain] = loop.store.retrains(1)
    assert retrain.state == DONE, retrain.outcome
    captioner = checkpoint.load(loop.registry.get(str(retrain.version)).checkpoint, "cpu")
    assert captioner.feature_space
    hashes = [row.sha256 for row in corrected]
    assert len(loop.store.features(1, captioner.feature_space.encoder, hashes)) == len(corrected)

    loop.watcher.load_champions()
    version = loop.champions.serving(1)
    assert version
    reuse = Reuse(loop.store, loop.champions)
    reuse.update(1, version)
    drafting = Drafting(loop.store, Images(loop.settings), loop.champions, reuse=reuse)
    loop.studio.answers["/data/upload/1/99.jpg"] = Answer(body=corrected[0].image.read_bytes())
    loop.studio.answers["/data/upload/1/98.jpg"] = Answer(body=loop.pictures.rows[0].image.read_bytes())
    copy, other = drafting.draft(1, [task(n, image=f"/data/upload/1/{n}.jpg") for n in (99, 98)], version)
    assert isinstance(copy, Draft)
    assert (copy.text, copy.from_task) == (corrected[0].references[0], 1)
    assert isinstance(other, Draft)
    reranking = reuse.retrieval(1, version)
    assert reranking is not None
    assert reranking.memory is not None
    known = {bytes(sha256).hex() for sha256 in reranking.memory.hashes.numpy()}
    assert set(hashes) <= known, "held-out ones too, which a user wants"
    assert loop.pictures.rows[0].sha256 in known, "and what the captioner knew"
