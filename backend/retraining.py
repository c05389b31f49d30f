"""One attempt at one retrain of a project: from frozen corrections to a judged, perhaps promoted, version."""

from __future__ import annotations

import logging
import math
import random
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend import snapshot
from backend.errors import RegistryError
from backend.pulse import Pulse, SupersededError
from backend.reconcile import reconcile_if_possible
from backend.registry import ModelVersion, Registry
from backend.retrains import Retrain
from backend.settings import Settings
from backend.snapshot import is_held_out
from backend.store import Store
from training import gate, manifest, metrics
from training.config import TrainingConfig
from training.errors import DataError, TrainingError, WeightsError
from training.vocabulary import Style

if TYPE_CHECKING:
    from training.fit import Progress
    from training.model import Captioner

log = logging.getLogger(__name__)

REPLAY_FACTOR = 1
"""Rows replayed of what a champion was first trained on, at most, for each row of corrections."""
FIRST_MODEL_STEPS = 600
"""A first model may have few corrections: its epochs are as many as make about so many steps."""


class Retraining:
    """One attempt at one retrain; `run` reads from top to bottom."""

    def __init__(self, settings: Settings, store: Store, retrain: Retrain, pulse: Pulse) -> None:
        self._settings, self._store, self._pulse = settings, store, pulse
        self._retrain, self._project_id = retrain, retrain.project_id
        self._registry = Registry(store)
        self._models = settings.data_dir / "models"

    def run(self) -> tuple[str, str]:
        """The candidate's name and one sentence on what became of it.

        Raises PostponedError when it should be begun again later, else CaptionerError or TrainingError.
        """
        self._pulse.tell("collect")
        if not self._retrain.frozen:
            reconcile_if_possible(self._settings, self._store, self._project_id)
        self._retrain = self._frozen()
        pairs = snapshot.take(self._settings, self._store, self._retrain, self._pulse)
        candidate = self._registry.of_snapshot(self._project_id, self._retrain.snapshot)
        if candidate is None:
            candidate = self._trained(pairs)
        return candidate.name, self._promoted(candidate)

    def _frozen(self) -> Retrain:
        frozen = self._store.freeze_retrain(self._retrain.id, self._retrain.attempt)
        if frozen is None:
            raise SupersededError
        return frozen

    def _trained(self, pairs: Path) -> ModelVersion:
        """A new version, trained from the champion where there is one, judged and registered."""
        from training import checkpoint
        from training.evaluate import evaluate

        rows = manifest.load(pairs)
        corrected = [row for row in rows if row.split != manifest.HELD_OUT]
        held_out = [row for row in rows if row.split == manifest.HELD_OUT]
        if not corrected:
            raise TrainingError(
                f"All {len(rows)} corrected images belong to the held-out ones that judge models; correct a few more."
            )
        champion = self._registry.champion(self._project_id)
        for leftover in self._models.glob(f".{self._retrain.snapshot}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        work = self._models / f".{self._retrain.snapshot}.{self._retrain.attempt}"
        checkpoint_folder = self._fitted(corrected, champion, work / "candidate")

        self._pulse.tell("evaluate", step=0, steps=len(held_out))
        cache = self._settings.data_dir / "features"
        name = self._registry.next_name(self._project_id)
        learner = checkpoint.load(checkpoint_folder, self._settings.device)

        def judged(captioner: Captioner, model: str) -> gate.Evaluation:
            voting_set = f"held-out corrections of project {self._project_id}"
            decoding = learner.decoding  # the same for both, whatever the champion's own is
            return evaluate(captioner, held_out, model=model, voting_set=voting_set, decoding=decoding, cache_dir=cache)

        ours = judged(learner, name)
        theirs = None
        if champion is not None:
            theirs = judged(checkpoint.load(champion.checkpoint, self._settings.device), champion.name)
        verdict = gate.judge(theirs, ours, margin=self._settings.gate_margin, floor=self._settings.gate_floor)

        self._pulse.confirm()
        folder = self._models / name
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that died before it could register it
        checkpoint_folder.replace(folder)
        shutil.rmtree(work, ignore_errors=True)
        scores: dict[str, float] = {"pairs": verdict.pairs, "distinct_words": metrics.distinct_words(ours.hypotheses)}
        if verdict.candidate_score is not None:
            scores[verdict.candidate_score.name] = verdict.candidate_score.value
        return self._registry.register(
            ModelVersion(
                name=name,
                checkpoint=folder,
                project_id=self._project_id,
                parent=champion.name if champion else None,
                manifest=pairs,
                snapshot=self._retrain.snapshot,
                verdict=verdict.to_json(),
                scores=scores,
                state="passed" if verdict.promotes else "rejected",
            )
        )

    def _fitted(self, corrected: list[manifest.Row], champion: ModelVersion | None, out: Path) -> Path:
        """A checkpoint at `out` that has learnt the corrections."""
        from training.checkpoint import encoder_of
        from training.fit import train

        def tell(progress: Progress) -> None:
            self._pulse.tell(**vars(progress))

        common: dict[str, Any] = {
            "cache_dir": self._settings.data_dir / "features",
            "progress": tell,
            "device": self._settings.device,
            "beside_others": True,
            "style": Style.of([text for row in corrected for text in row.references]),
        }
        if champion is not None:
            learnt = [row for row in corrected if row.split == manifest.TRAIN] or corrected
            rows = [*learnt, *self._in_its_words(self._replay(corrected, champion), champion)]
            config = TrainingConfig.retraining(encoder_of(champion.checkpoint))
            train(
                [replace(row, split=manifest.TRAIN) for row in rows],
                out,
                config,
                start_from=champion.checkpoint,
                **common,
            )
            return self._blended(champion, out, [row for row in corrected if row not in learnt])
        corrected = [replace(row, split=manifest.TRAIN) for row in corrected]
        try:
            config = _first_model(self._settings.encoder, self._settings.encoder_weights, len(corrected))
            return train(corrected, out, config, **common)
        except WeightsError as error:
            log.warning("%s A small encoder is trained from nothing instead.", error)
            return train(corrected, out, _first_model("small_cnn", "none", len(corrected)), **common)

    def _blended(self, champion: ModelVersion, folder: Path, rows: list[manifest.Row]) -> Path:
        """The checkpoint at `folder`, moved back towards the champion as far as that is better on `rows`."""
        from training import blend, checkpoint

        before, after = (checkpoint.load(each, self._settings.device) for each in (champion.checkpoint, folder))

        def tell(done: int, total: int) -> None:
            self._pulse.tell("blend", step=done, steps=total)

        captioner, share = blend.best_blend(before, after, rows, self._settings.data_dir / "features", tell)
        if share == 1.0:
            return folder
        log.info("%.0f %% of the way from %s is best on %d corrections.", 100 * share, champion.name, len(rows))
        return checkpoint.save(folder, captioner, checkpoint.read_info(folder)["extra"] | {"blend": share})

    def _replay(self, corrected: list[manifest.Row], champion: ModelVersion) -> list[manifest.Row]:
        """A fixed sample of what the champion learnt before this project, so that it does not forget it.

        Held-out images never come in by this door, nor captions of this project that have been taken back.
        """
        taken = {row.sha256 for row in corrected}
        found: dict[str, manifest.Row] = {}
        for ancestor in self._lineage(champion):
            if ancestor.manifest is None or ancestor.project_id == self._project_id:
                continue
            try:
                rows: Iterable[manifest.Row] = manifest.load(ancestor.manifest)
            except DataError as error:
                log.warning("Nothing of %s is replayed: %s", ancestor.name, error)
                continue
            for row in rows:
                if row.split == manifest.TRAIN and row.sha256 not in taken and not is_held_out(row.sha256):
                    found.setdefault(row.sha256, row)
        rows = [found[sha256] for sha256 in sorted(found)]
        wanted = min(len(rows), REPLAY_FACTOR * len(corrected))
        return random.Random(self._retrain.snapshot).sample(rows, wanted)

    def _in_its_words(self, rows: list[manifest.Row], champion: ModelVersion) -> list[manifest.Row]:
        """The rows with the champion's captions in place of the human ones (Kim & Rush, 2016: sequence-level
        distillation).

        They keep its manner of speaking: annotators mend what is wrong in a draft and leave its wording, and so should
        the retrain.
        """
        from training import checkpoint
        from training.evaluate import hypotheses

        if not rows:
            return []
        captioner = checkpoint.load(champion.checkpoint, self._settings.device)
        told = hypotheses(captioner, rows, None, self._settings.data_dir / "features")
        return [replace(row, references=(item.text,)) for row, item in zip(rows, told, strict=True) if item.text]

    def _lineage(self, version: ModelVersion) -> Iterable[ModelVersion]:
        yield version
        while version.parent is not None:
            version = self._registry.get(version.parent)
            yield version

    def _promoted(self, candidate: ModelVersion) -> str:
        """What becomes of the candidate, and why, in one sentence."""
        assert candidate.verdict is not None
        verdict = gate.Verdict.from_json(candidate.verdict)
        basis = f"{verdict.reason} ({verdict.pairs} held-out pairs{', provisional' if verdict.provisional else ''})"
        if not verdict.promotes:
            return f"{candidate.name} is rejected: {basis}."
        if self._settings.promotion == "manual":
            return f"{candidate.name} may be promoted (`captioner promote {candidate.name}`): {basis}."
        self._pulse.confirm()
        try:
            self._registry.promote(
                self._project_id, candidate.name, reason=basis, by="gate", instead_of=candidate.parent
            )
        except RegistryError as error:
            return f"{candidate.name} passed but is not promoted: {error}"
        return f"{candidate.name} is promoted: {basis}."


def _first_model(encoder: str, weights: str, images: int) -> TrainingConfig:
    """A training from the start on so many images; a small set is gone through more often."""
    config = TrainingConfig.photos(encoder, "none" if encoder == "small_cnn" and weights == "imagenet" else weights)
    batch = min(config.batch_size, max(8, images // 8))
    epochs = min(100, max(config.epochs, FIRST_MODEL_STEPS // math.ceil(images / batch)))
    return TrainingConfig.photos(config.encoder.name, config.encoder.weights, epochs=epochs, batch_size=batch)
