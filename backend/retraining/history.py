"""What a project's champion has learned, version by version, and which corrections are quarantined."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from backend.domain.splits import JUDGING, split_of
from backend.images.archive import ImageStore
from backend.store.registry import DROPPED, HELD, PASSED, REJECTED, RELEASED, ModelVersion, Registry
from training.continual.incremental import RetrainingData
from training.continual.interpolation import FEWEST_ROWS
from training.data import manifest
from training.data.manifest import Row
from training.errors import DataError, TrainingError
from training.gate.gate import Verdict

log = logging.getLogger(__name__)

_Pair = tuple[str, str]
"""An image, by its hash, and one caption of it."""


class History:
    """The manifests of a champion's lineage, and the project's other versions.

    With `images`, images of the base that are missing in the data folder are restored from the image store; those that
    are in neither are left out of the training with a warning.
    """

    def __init__(
        self,
        registry: Registry,
        project_id: int,
        champion: ModelVersion | None,
        blind_share: float,
        images: ImageStore | None = None,
    ) -> None:
        self._registry, self._project_id, self._blind_share = registry, project_id, blind_share
        self._own: list[Row] = []  # of this project
        self._base: list[Row] = []  # of its ancestors from before this project
        self._learnt: set[_Pair] = set()  # of this project
        self._latest: set[_Pair] = set()  # of each image as the last version had it that learned a caption of it
        for ancestor in registry.lineage(champion):
            rows = _rows_of(ancestor)
            if ancestor.project_id == project_id:
                self._own += rows
                # A snapshot also has what was quarantined then.
                learnt = (
                    quarantined_rows(ancestor) if _new_of(ancestor) else [r for r in rows if r.split not in JUDGING]
                )
                last = {row.sha256 for row in learnt} - {sha256 for sha256, _ in self._learnt}
                self._latest |= _pairs(row for row in rows if row.sha256 in last)
                self._learnt |= _pairs(learnt)
            else:
                self._base += rows
        if images is not None:
            # The base may be very large and only a sample of it is replayed, so no file is hashed here.
            self._base, lost = images.restored(self._base, by_content=False)
            if lost:
                log.warning(
                    "%d of %d images of the base are gone, the first: %s.", len(lost), len(self._base), lost[0].image
                )

    def retraining_data(self, corrected: Sequence[Row]) -> RetrainingData:
        """The snapshot's rows with a caption that the champion has not learned yet, the others, and the base to replay.

        Left out are images that were held out for any version of the lineage, and this project's quarantined captions;
        the captioner must also forget those it has indexed for retrieval, and images of which a caption is there no
        more. Raises TrainingError when nothing is left.
        """
        evaluating = {row.sha256 for row in self._own if row.split in JUDGING}
        rows = [row for row in self.trusted(corrected) if row.sha256 not in evaluating]
        if not rows:
            raise TrainingError(
                f"All {len(corrected)} corrected images are quarantined or judge models; "
                "`captioner quarantine` lists what may be released."
            )
        of_project = {row.sha256 for row in corrected}
        base = {
            row.sha256: row
            for row in self._base
            if row.split == manifest.TRAIN and row.sha256 not in of_project and row.sha256 not in evaluating
        }
        places = self._registry.store.places(self._project_id, list(base))
        base = {
            sha256: row
            for sha256, row in base.items()
            if (places.get(sha256) or split_of(sha256, self._blind_share)) not in JUDGING
        }
        train = [row for row in rows if row.split == manifest.TRAIN]
        choosing = [row for row in rows if row.split != manifest.TRAIN]
        if not train or len(choosing) < FEWEST_ROWS:  # too few to choose by are better learned
            train, choosing = [*train, *choosing], []
        new = [row for row in train if _pairs([row]) - self._learnt]
        known = [row for row in train if not _pairs([row]) - self._learnt]
        if not new:  # a person may ask for a retrain with nothing new: then all is learned once more
            new, known = train, []
        taught = {row.sha256 for row in train} | set(base)
        forgotten = {row.sha256 for row in (*self._own, *self._base) if row.sha256 not in taught}
        # An image whose caption was exchanged has been indexed anew since, when that was learned.
        gone = self._learnt & ((self._latest - _pairs(train)) | self._quarantined())
        forgotten |= {sha256 for sha256, _ in gone}
        base_choosing = [row for row in self._base_dev() if _chooses(row)]
        return RetrainingData(new, known, list(base.values()), choosing, base_choosing, forgotten)

    def fair(self, rows: Iterable[Row]) -> list[Row]:
        """The rows without those that would judge although the champion has learned a caption of their image."""
        learnt = {sha256 for sha256, _ in self._learnt}
        return [row for row in rows if row.split not in JUDGING or row.sha256 not in learnt]

    def trusted(self, rows: Iterable[Row]) -> list[Row]:
        """The rows without quarantined captions: those that rejected candidates were the first to learn and no operator
        has released."""
        return _without(rows, self._quarantined())

    def not_learnt(self, rows: Iterable[Row]) -> list[Row]:
        """The rows without the captions that the champion has learned."""
        return _without(rows, self._learnt)

    def never_tried(self, rows: Iterable[Row]) -> list[Row]:
        """The rows without captions that a held or passed candidate has learned or an operator has released."""
        return _without(rows, self._first_learnt_by({HELD, PASSED, RELEASED}))

    def base_judging(self) -> list[Row]:
        """Half of the development images of the champion's ancestors from before this project: they show forgetting,
        the others choose the interpolation."""
        return [row for row in self._base_dev() if not _chooses(row)]

    def _base_dev(self) -> list[Row]:
        return list({row.sha256: row for row in self._base if row.split == manifest.DEV}.values())

    def verdicts(self) -> list[Verdict]:
        """All verdicts of the project's candidates so far."""
        return [Verdict.from_json(version.verdict) for version in self._versions if version.verdict]

    @property
    def _versions(self) -> list[ModelVersion]:
        """Read anew each time, because an operator may decide on one meanwhile."""
        return [each for each in self._registry.versions(self._project_id) if each.project_id == self._project_id]

    def _quarantined(self) -> set[_Pair]:
        return self._first_learnt_by({REJECTED, DROPPED})

    def _first_learnt_by(self, states: set[str]) -> set[_Pair]:
        """The captions that the project's versions in these states were the first to learn."""
        return _pairs(row for each in self._versions if each.state in states for row in quarantined_rows(each))


def quarantined_rows(version: ModelVersion) -> list[Row]:
    """The captions that this version was the first to learn, as rows."""
    path = _new_of(version)
    return manifest.load(path) if path and path.stat().st_size else []


def _new_of(version: ModelVersion) -> Path | None:
    path = version.new_captions
    return path if path and path.exists() else None


def _chooses(row: Row) -> bool:
    return manifest.split_position(row.sha256, "choosing:") < 0.5


def _pairs(rows: Iterable[Row]) -> set[_Pair]:
    return {(row.sha256, text) for row in rows for text in row.references}


def _without(rows: Iterable[Row], pairs: set[_Pair]) -> list[Row]:
    """The rows without these captions; a row whose every caption is among them is left out."""
    left = (
        replace(row, references=tuple(text for text in row.references if (row.sha256, text) not in pairs))
        for row in rows
    )
    return [row for row in left if row.references]


def _rows_of(version: ModelVersion) -> list[Row]:
    if version.manifest is None:
        return []
    try:
        return manifest.load(version.manifest)
    except DataError as error:
        log.warning("What %s has learned cannot be replayed: %s", version.name, error)
        return []
