"""One attempt at one retrain of a project: from frozen corrections to a judged version, perhaps promoted."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from backend.corrections.reconcile import reconcile_if_possible
from backend.domain.errors import RegistryError, UnreachableImageError
from backend.images.archive import ImageStore
from backend.images.sharing import SNAPSHOT, Sharing
from backend.retraining import examples, snapshot
from backend.retraining.gate import ROLES, Contender, ProjectGate
from backend.retraining.heartbeat import Heartbeat, SupersededError
from backend.retraining.history import History
from backend.retraining.reuse import LearnedCorrections
from backend.retraining.snapshot import Snapshot
from backend.settings import Settings
from backend.store.registry import HELD, NEW, PASSED, REJECTED, ModelVersion, Registry
from backend.store.retrains import MAX_POSTPONED, REGISTER, Retrain
from backend.store.store import Store
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.continual.incremental import RetrainingData, retrain
from training.data import manifest
from training.data.manifest import Row
from training.errors import DataError, TrainingError, WeightsError
from training.gate import gate
from training.learning.elastic.launch import train
from training.learning.train import Progress

log = logging.getLogger(__name__)

UPLOADING_SECONDS, RETRY_UPLOAD_SECONDS = 3600.0, 15.0
"""How long a trained version waits for a store that cannot be reached, and how often that is tried again."""

STATES = {gate.PROMOTE: PASSED, gate.REJECT: REJECTED, gate.HOLD: HELD}


class Retraining:
    """One attempt at one retrain; `run` reads from top to bottom."""

    def __init__(self, settings: Settings, store: Store, retrain: Retrain, heartbeat: Heartbeat) -> None:
        self._settings, self._store, self._heartbeat = settings, store, heartbeat
        self._retrain, self._project_id = retrain, retrain.project_id
        self._registry = Registry(store)
        self._images = ImageStore(settings)
        self._sharing = Sharing(settings, store)
        self._models = settings.data_dir / "models"
        self._loaded: dict[str, Captioner] = {}
        self._images_at_once: int | None = None  # where device memory did not suffice for whole batches

    def run(self) -> tuple[str, str]:
        """The candidate's name and a sentence that says whether it was promoted, and why.

        Raises PostponedError when the retrain must begin again later, else CaptionerError or TrainingError.
        """
        if not self._retrain.frozen:
            self._heartbeat.report("compare")
            reconcile_if_possible(self._settings, self._store, self._project_id)
        self._heartbeat.report("collect")
        frozen = self._store.freeze_retrain(self._retrain)
        if frozen is None:
            raise SupersededError
        self._retrain = frozen
        try:
            pairs = snapshot.take(self._settings, self._store, self._retrain, self._heartbeat, self._images)
            self._confirm_champion(pairs.rows)
            candidate = self._registry.of_snapshot(self._project_id, self._retrain.snapshot)
            if candidate is None:
                candidate = self._trained(pairs)
        except UnreachableImageError as error:  # rather later than on fewer pairs
            self._postpone(error)
            raise
        except DataError as error:
            if isinstance(error.__cause__, FileNotFoundError):  # deleted meanwhile; the next attempt fetches it again
                self._postpone(error)
            raise
        self._heartbeat.report(REGISTER)
        outcome = self._promoted(candidate)
        if self._images_at_once is not None:
            outcome += f" Memory sufficed for {self._images_at_once} images at once only, so micro-batches were used."
        return candidate.name, outcome

    def _postpone(self, error: Exception) -> None:
        """Raises PostponedError, unless that was done often enough."""
        if self._retrain.postponed < MAX_POSTPONED:
            raise snapshot.PostponedError(str(error)) from error

    def _contender(self, version: ModelVersion) -> Contender:
        """The version with its captioner, which is loaded once for the whole retrain."""
        if version.name not in self._loaded:
            self._sharing.fetch_checkpoint(version.checkpoint)
            checkpoint.check_digest(version.checkpoint, version.digest)
            self._loaded[version.name] = checkpoint.load(version.checkpoint, self._settings.device)
        return Contender(version.name, self._loaded[version.name])

    def _reporting(self, phase: str) -> Callable[[int, int], None]:
        """A progress callback that reports steps of the phase."""
        return lambda done, total: self._heartbeat.report(phase, step=done, steps=total)

    def _confirm_champion(self, rows: Sequence[Row]) -> None:
        """Judge a provisional champion again once there are enough pairs, and take it back if it is worse.

        What an operator promoted meanwhile stays.
        """
        champion = self._registry.champion(self._project_id)
        if champion is None or champion.parent is None or champion.verdict is None:
            return
        if champion.project_id != self._project_id or not gate.Verdict.from_json(champion.verdict).provisional:
            return
        parent = self._registry.get(champion.parent)
        project_gate = self._gate(rows, self._history(champion))
        if project_gate.pairs < gate.FIRM_PAIRS:
            return
        verdict = project_gate.verdict(self._contender(parent), self._contender(champion), self._reporting("confirm"))
        self._heartbeat.renew()
        self._registry.replace_verdict(champion.name, verdict.to_json())
        log.info("%s is judged again, %s: %s", champion.name, verdict.decision, verdict.reason)
        if verdict.decision == gate.REJECT:
            reason = f"judged again: {verdict.reason}"
            try:
                self._registry.take_back(self._project_id, champion.name, to=parent.name, reason=reason)
            except RegistryError as error:
                log.warning("%s", error)

    def _history(self, champion: ModelVersion | None) -> History:
        for version in (*self._registry.lineage(champion), *self._registry.versions(self._project_id)):
            if version.manifest:  # trained on another machine, perhaps
                self._sharing.fetch(version.manifest.parent, by_content=False)
        return History(self._registry, self._project_id, champion, self._settings.blind_share, self._images)

    def _gate(self, rows: Sequence[Row], history: History) -> ProjectGate:
        learned = LearnedCorrections(self._settings, self._store, self._project_id, history.trusted(rows))
        base, past = history.base_judging(), history.verdicts()
        return ProjectGate(self._settings, self._project_id, history.fair(rows), base, past, learned)

    def _trained(self, pairs: Snapshot) -> ModelVersion:
        """A new version, trained from the champion where there is one, judged and registered."""
        corrected = [row for row in pairs.rows if row.split not in ROLES]
        if not corrected:
            raise TrainingError(
                f"All {len(pairs.rows)} corrected images belong to the held-out ones that judge models; "
                "correct a few more."
            )
        version = self._registry.champion(self._project_id)
        history = self._history(version)
        data = history.retraining_data(corrected)
        project_gate = self._gate(pairs.rows, history)
        champion = self._contender(version) if version else None
        first_learnt = history.not_learnt(data.new)
        untried = history.never_tried(first_learnt)
        mismatch = project_gate.mismatch(champion, untried, self._reporting("mismatch")) if champion else None
        # corrections of a held candidate passed this check before, so they are not quarantined
        manifest.save(untried if mismatch else first_learnt, pairs.manifest.with_name(NEW))
        self._sharing.share(pairs.manifest.parent, SNAPSHOT)
        for leftover in self._models.glob(f".{self._project_id}-*"):  # of an attempt that died: only one is active
            shutil.rmtree(leftover, ignore_errors=True)
        work = self._models / f".{self._retrain.snapshot}.{self._retrain.id}.{self._retrain.attempt}"
        try:
            name = self._registry.next_name(self._project_id)
            board = self._settings.data_dir / "tensorboard" / name
            shutil.rmtree(board, ignore_errors=True)  # of an attempt that died
            candidate = Contender(name, self._learned(data, champion, work / "candidate", board))
            verdict = project_gate.verdict(champion, candidate, self._reporting("evaluate"), mismatch)
            examples.make(candidate.captioner, project_gate.held_out, work / "candidate")
            folder = self._models / name
            self._sharing.withdraw(folder)
            shutil.rmtree(folder, ignore_errors=True)  # left by a process that died before it could register it
            (work / "candidate").replace(folder)
            self._share(folder, pairs.manifest.parent)
            self._heartbeat.report(REGISTER)
            self._heartbeat.renew()  # it is known: too late to cancel from now on
            return self._registered(name, champion, verdict, pairs.manifest, folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _learned(self, data: RetrainingData, champion: Contender | None, out: Path, board: Path) -> Captioner:
        """A captioner that has learned the corrections, saved at `out`; its curves go to `board`, for TensorBoard."""

        def report(progress: Progress) -> None:
            self._images_at_once = progress.images_at_once
            self._heartbeat.report(**vars(progress))

        common: dict[str, Any] = {
            "cache_dir": self._settings.data_dir / "features",
            "progress": report,
            "device": self._settings.device,
            "beside_others": True,
            "tensorboard": board,
        }
        if champion is not None:
            return retrain(
                champion.captioner,
                data,
                out,
                replay=self._settings.replay,
                seed=self._retrain.snapshot,
                interpolating=self._reporting("interpolate"),
                **common,
            )
        corrected = [replace(row, split=manifest.TRAIN) for row in (*data.new, *data.choosing)]
        try:
            config = _first_model(self._settings.encoder, self._settings.encoder_weights, len(corrected))
            train(corrected, out, config, **common)
        except WeightsError as error:
            log.warning("%s A small encoder is trained from scratch instead.", error)
            train(corrected, out, _first_model("small_cnn", "none", len(corrected)), **common)
        return checkpoint.load(out, self._settings.device)

    def _share(self, checkpoint: Path, taken: Path) -> None:
        """Upload the version before it is registered, so that every machine that sees it can fetch it.

        Hours of training must not be lost because the store is down for a moment.
        """
        end = time.monotonic() + UPLOADING_SECONDS
        while True:
            try:
                self._sharing.share(checkpoint)
                self._sharing.share(taken, SNAPSHOT)
                return
            except UnreachableImageError as error:
                if time.monotonic() > end:
                    raise
                log.warning("%s is trained and not uploaded yet; it is tried again: %s", checkpoint.name, error)
                self._heartbeat.report("upload")
                time.sleep(RETRY_UPLOAD_SECONDS)

    def _registered(
        self, name: str, champion: Contender | None, verdict: gate.Verdict, rows: Path, folder: Path
    ) -> ModelVersion:
        """The version `name` with the checkpoint in `folder`, and its verdict."""
        scores: dict[str, float] = {"pairs": verdict.pairs}
        if verdict.candidate_score is not None:
            scores[verdict.candidate_score.name] = verdict.candidate_score.value
        return self._registry.register(
            ModelVersion(
                name=name,
                checkpoint=folder,
                project_id=self._project_id,
                parent=champion.name if champion else None,
                manifest=rows,
                snapshot=self._retrain.snapshot,
                verdict=verdict.to_json(),
                scores=scores,
                state=STATES[verdict.decision],
            )
        )

    def _promoted(self, candidate: ModelVersion) -> str:
        """Promote the candidate if its verdict and the settings allow; one sentence on the outcome and its reason."""
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
        serving = self._registry.champion(self._project_id)
        served = any(move.version == candidate.name for move in self._registry.moves(self._project_id))
        if served and (serving is None or serving.name != candidate.name):
            # promoted by an attempt that died, and a person has undone it
            return f"{candidate.name} was promoted, and has been taken back since: {basis}."
        try:
            self._registry.promote(
                self._project_id, candidate.name, reason=basis, by="gate", instead_of=candidate.parent
            )
        except RegistryError as error:
            return f"{candidate.name} passed but is not promoted: {error}"
        return f"{candidate.name} is promoted: {basis}."


def _first_model(encoder: str, weights: str, images: int) -> TrainingConfig:
    """The config of a project's first model on so many images; few images are trained in smaller batches."""
    weights = "none" if encoder == "small_cnn" and weights == "imagenet" else weights
    size = min(TrainingConfig.photos(encoder, weights).batch_size, max(8, images // 8))
    return TrainingConfig.photos(encoder, weights, images=images, batch_size=size, agreed_captions=0)
