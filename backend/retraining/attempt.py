"""One attempt at one retrain of a project: from frozen corrections to a judged, perhaps promoted, version."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.corrections.reconcile import reconcile_if_possible
from backend.domain.errors import RegistryError, UnreachableImageError
from backend.images.archive import ImageStore
from backend.retraining import snapshot
from backend.retraining.gate import ROLES, Contender, ProjectGate
from backend.retraining.heartbeat import Heartbeat, SupersededError
from backend.retraining.history import NEW, History
from backend.retraining.snapshot import Snapshot
from backend.settings import Settings
from backend.store.registry import HELD, PASSED, REJECTED, ModelVersion, Registry
from backend.store.retrains import MAX_POSTPONED, REGISTER, Retrain
from backend.store.store import Store
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.errors import TrainingError, WeightsError
from training.gate import gate
from training.vocabulary import Style

if TYPE_CHECKING:
    from training.continual.incremental import RetrainingData
    from training.learning.train import Progress

log = logging.getLogger(__name__)

STATES = {gate.PROMOTE: PASSED, gate.REJECT: REJECTED, gate.HOLD: HELD}


class Retraining:
    """One attempt at one retrain; `run` reads from top to bottom."""

    def __init__(self, settings: Settings, store: Store, retrain: Retrain, heartbeat: Heartbeat) -> None:
        self._settings, self._store, self._heartbeat = settings, store, heartbeat
        self._retrain, self._project_id = retrain, retrain.project_id
        self._registry = Registry(store)
        self._images = ImageStore(settings)
        self._models = settings.data_dir / "models"
        self._images_at_once: int | None = None  # where memory did not suffice for whole batches

    def run(self) -> tuple[str, str]:
        """The candidate's name and one sentence on what became of it.

        Raises PostponedError when it should be begun again later, else CaptionerError or TrainingError.
        """
        if not self._retrain.frozen:
            self._heartbeat.report("compare")
            reconcile_if_possible(self._settings, self._store, self._project_id)
        self._heartbeat.report("collect")
        self._retrain = self._frozen()
        try:
            pairs = snapshot.take(self._settings, self._store, self._retrain, self._heartbeat, self._images)
            self._confirm_champion(pairs.rows)
            candidate = self._registry.of_snapshot(self._project_id, self._retrain.snapshot)
            if candidate is None:
                candidate = self._trained(pairs)
        except UnreachableImageError as error:  # fewer pairs are not trained in their place
            if self._retrain.postponed < MAX_POSTPONED:
                raise snapshot.PostponedError(str(error)) from error
            raise
        self._heartbeat.report(REGISTER)
        return candidate.name, self._promoted(candidate) + self._remark()

    def _frozen(self) -> Retrain:
        frozen = self._store.freeze_retrain(self._retrain.id, self._retrain.attempt)
        if frozen is None:
            raise SupersededError
        return frozen

    def _confirm_champion(self, rows: Sequence[Row]) -> None:
        """Judge a champion again that was promoted on few pairs, once there are enough; take it back if it is worse."""
        champion = self._registry.champion(self._project_id)
        if champion is None or champion.parent is None or champion.verdict is None:
            return
        if champion.project_id != self._project_id or not gate.Verdict.from_json(champion.verdict).provisional:
            return
        parent = self._registry.get(champion.parent)
        history = History(self._registry, self._project_id, parent, self._settings.blind_share, self._images)
        project_gate = ProjectGate(self._settings, self._project_id, rows, history.base_dev(), history.verdicts())
        if project_gate.pairs < gate.FIRM_PAIRS:
            return
        verdict = project_gate.verdict(
            Contender(parent.name, parent.checkpoint),
            Contender(champion.name, champion.checkpoint),
            lambda done, total: self._heartbeat.report("confirm", step=done, steps=total),
        )
        self._heartbeat.renew()
        self._registry.replace_verdict(champion.name, verdict.to_json())
        log.info("%s is judged again, %s: %s", champion.name, verdict.decision, verdict.reason)
        if verdict.decision == gate.REJECT:
            self._registry.rollback(self._project_id, f"judged again: {verdict.reason}", by="gate")

    def _trained(self, pairs: Snapshot) -> ModelVersion:
        """A new version, trained from the champion where there is one, judged and registered."""
        rows = pairs.rows
        corrected = [row for row in rows if row.split not in ROLES]
        if not corrected:
            raise TrainingError(
                f"All {len(rows)} corrected images belong to the held-out ones that judge models; correct a few more."
            )
        champion = self._registry.champion(self._project_id)
        history = History(self._registry, self._project_id, champion, self._settings.blind_share, self._images)
        lessons = history.lessons(corrected)
        project_gate = ProjectGate(self._settings, self._project_id, rows, history.base_dev(), history.verdicts())
        untried = history.never_tried(lessons.new)
        doubt = self._doubt(project_gate, champion, untried)
        # what was held before goes on waiting: it was not doubted then
        manifest.save(untried if doubt else lessons.new, pairs.manifest.with_name(NEW))
        for leftover in self._models.glob(f".{self._project_id}-*"):  # nobody else's: one is active a project
            shutil.rmtree(leftover, ignore_errors=True)
        work = self._models / f".{self._retrain.snapshot}.{self._retrain.id}.{self._retrain.attempt}"
        try:
            fitted = self._fitted(lessons, champion, work / "candidate")
            return self._registered(pairs, project_gate, champion, fitted, doubt)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _doubt(self, project_gate: ProjectGate, champion: ModelVersion | None, untried: Sequence[Row]) -> str | None:
        """Why captions that are learnt for the first time seem to be those of other images, as far as one can tell."""
        if champion is None:
            return None
        contender = Contender(champion.name, champion.checkpoint)
        return project_gate.doubt(
            contender, untried, lambda done, total: self._heartbeat.report("mismatch", step=done, steps=total)
        )

    def _registered(
        self,
        pairs: Snapshot,
        project_gate: ProjectGate,
        champion: ModelVersion | None,
        checkpoint_folder: Path,
        doubt: str | None,
    ) -> ModelVersion:
        """The checkpoint as a version, judged against the champion."""
        name = self._registry.next_name(self._project_id)
        verdict = project_gate.verdict(
            Contender(champion.name, champion.checkpoint) if champion else None,
            Contender(name, checkpoint_folder),
            lambda done, total: self._heartbeat.report("evaluate", step=done, steps=total),
            doubt,
        )

        self._heartbeat.report(REGISTER)  # whoever cancels from now on comes too late
        folder = self._models / name
        shutil.rmtree(folder, ignore_errors=True)  # left by a process that died before it could register it
        checkpoint_folder.replace(folder)
        scores: dict[str, float] = {"pairs": verdict.pairs}
        if verdict.candidate_score is not None:
            scores[verdict.candidate_score.name] = verdict.candidate_score.value
        return self._registry.register(
            ModelVersion(
                name=name,
                checkpoint=folder,
                project_id=self._project_id,
                parent=champion.name if champion else None,
                manifest=pairs.manifest,
                snapshot=self._retrain.snapshot,
                verdict=verdict.to_json(),
                scores=scores,
                state=STATES[verdict.decision],
            )
        )

    def _fitted(self, lessons: RetrainingData, champion: ModelVersion | None, out: Path) -> Path:
        """A checkpoint at `out` that has learnt the corrections."""
        from training.captioner import checkpoint
        from training.continual.incremental import retrain
        from training.learning.train import train

        def tell(progress: Progress) -> None:
            self._images_at_once = progress.images_at_once
            self._heartbeat.report(**vars(progress))

        common: dict[str, Any] = {
            "cache_dir": self._settings.data_dir / "features",
            "progress": tell,
            "device": self._settings.device,
            "beside_others": True,
        }
        if champion is not None:
            return retrain(
                checkpoint.load(champion.checkpoint, self._settings.device),
                lessons,
                out,
                replay=self._settings.replay,
                seed=self._retrain.snapshot,
                interpolating=lambda done, total: self._heartbeat.report("interpolate", step=done, steps=total),
                **common,
            )
        corrected = [replace(row, split=manifest.TRAIN) for row in (*lessons.new, *lessons.choosing)]
        common["style"] = Style.of([text for row in corrected for text in row.references])
        try:
            config = _first_model(self._settings.encoder, self._settings.encoder_weights, len(corrected))
            return train(corrected, out, config, **common)
        except WeightsError as error:
            log.warning("%s A small encoder is trained from nothing instead.", error)
            return train(corrected, out, _first_model("small_cnn", "none", len(corrected)), **common)

    def _promoted(self, candidate: ModelVersion) -> str:
        """What becomes of the candidate, and why, in one sentence."""
        assert candidate.verdict is not None
        verdict = gate.Verdict.from_json(candidate.verdict)
        basis = f"{verdict.reason} ({verdict.pairs} held-out pairs{', provisional' if verdict.provisional else ''})"
        if verdict.decision == gate.REJECT:
            return f"{candidate.name} is rejected, and what it learnt is quarantined: {basis}."
        if not verdict.promotes:
            return f"{candidate.name} is held, the champion stays: {basis}."
        if self._settings.promotion == "manual":
            return f"{candidate.name} may be promoted (`captioner promote {candidate.name}`): {basis}."
        self._heartbeat.renew()
        try:
            self._registry.promote(
                self._project_id, candidate.name, reason=basis, by="gate", instead_of=candidate.parent
            )
        except RegistryError as error:
            return f"{candidate.name} passed but is not promoted: {error}"
        return f"{candidate.name} is promoted: {basis}."

    def _remark(self) -> str:
        if self._images_at_once is None:
            return ""
        return f" Memory sufficed for {self._images_at_once} images at once only, so batches were trained in parts."


def _first_model(encoder: str, weights: str, images: int) -> TrainingConfig:
    """The config of a first model, trained on every caption of this number of images; few images make small batches."""
    weights = "none" if encoder == "small_cnn" and weights == "imagenet" else weights
    size = min(TrainingConfig.photos(encoder, weights).batch_size, max(8, images // 8))
    return TrainingConfig.photos(encoder, weights, images=images, batch_size=size, agreed_captions=0)
