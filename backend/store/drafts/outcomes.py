"""What became of a project's drafts, for reports on all of them at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import sqlalchemy as sa

from backend.store.database import Database
from backend.store.tables import correction_revisions, corrections, drafts, places, retrains, selected_tasks, selections
from training.data.manifest import BLIND


class CorrectedDraft(NamedTuple):
    """A usable correction and the draft it started from: None where there was none yet, empty where it was withheld.

    `version` is None where the draft was a copied correction, whose words are no version's. `blind`: its task showed no
    draft, as no task with its image does.
    """

    version: str | None
    draft: str | None
    texts: tuple[str, ...]
    seq: int = 0
    task: int = 0
    annotator: int | None = None
    lead_time_seconds: float | None = None
    reasons: tuple[str, ...] = ()
    blind: bool = False
    hints: tuple[str, ...] = ()


class WithheldDraft(NamedTuple):
    """What a version would have drafted for a blind task."""

    task: int
    version: str
    text: str


class Outcomes(Database):
    """The part of the store that reads whole projects for reports."""

    def corrected_drafts(self, project_id: int) -> list[CorrectedDraft]:
        """By annotation id, which is the order in which they were made."""
        made = corrections.c
        place = (places.c.project_id == made.project_id) & (places.c.image_sha256 == made.image_sha256)
        # an image of unknown content was drafted by a release that withheld drafts of blind tasks only
        blind = (made.draft_text == "") & (sa.func.coalesce(places.c.place, BLIND) == BLIND)
        query = sa.select(
            *(made.draft_version, made.draft_text, made.texts, made.seq, made.task_id, made.annotator),
            *(made.lead_time_seconds, made.reasons, blind, made.hints),
        ).join_from(corrections, places, place, isouter=True)
        with self.reading() as connection:
            mine = query.where(made.project_id == project_id, made.usable).order_by(made.annotation_id)
            rows = connection.execute(mine).all()
        return [
            CorrectedDraft(
                *(version, draft, tuple(texts), seq, task, annotator, seconds, tuple(reasons), bool(is_blind)),
                tuple(hints),
            )
            for version, draft, texts, seq, task, annotator, seconds, reasons, is_blind, hints in rows
        ]

    def withheld_drafts(self, project_id: int) -> list[WithheldDraft]:
        """What versions would have drafted for tasks that were captioned without a draft, the newest last."""
        made = corrections.c
        captioned = sa.exists().where(
            made.project_id == project_id, made.task_id == drafts.c.task_id, made.usable, made.draft_text == ""
        )
        mine = drafts.c.project_id == project_id, drafts.c.withheld.is_not(None), captioned
        query = sa.select(drafts.c.task_id, drafts.c.version, drafts.c.withheld).where(*mine)
        with self.reading() as connection:
            return [WithheldDraft(*row) for row in connection.execute(query.order_by(drafts.c.id))]

    def selected_tasks(self, project_id: int) -> dict[int, bool]:
        """Tasks that any selection has had annotators get first, and whether they were drawn at random, as controls.

        What a strategy chose once is no control, whatever was drawn later.
        """
        chosen = selected_tasks.c
        mine = selections.c.project_id == project_id, chosen.rank.is_not(None), chosen.stored
        query = sa.select(chosen.task_id, chosen.is_control).join(selections, selections.c.id == chosen.selection_id)
        with self.reading() as connection:
            rows = connection.execute(query.where(*mine).order_by(chosen.is_control.desc())).all()
        return {task: bool(is_control) for task, is_control in rows}

    def draft_texts(self, project_id: int, version: str, before: bool = False) -> list[str]:
        """The version's own drafts, or those that others had made `before` its first one; no copied corrections."""
        own = (drafts.c.project_id == project_id) & drafts.c.from_task.is_(None)
        mine = own & (drafts.c.version == version)
        if before:
            mine = own & (drafts.c.id < sa.select(sa.func.min(drafts.c.id)).where(mine).scalar_subquery())
        with self.reading() as connection:
            return list(connection.scalars(sa.select(drafts.c.text).where(mine)))

    def annotators(self, project_id: int) -> list[int]:
        """Label Studio's numbers of the people who annotated, by their first annotation, deleted or not."""
        log = correction_revisions.c
        query = sa.select(log.annotator).where(log.project_id == project_id, log.annotator.is_not(None))
        query = query.group_by(log.annotator).order_by(sa.func.min(log.annotation_id), log.annotator)
        with self.reading() as connection:
            return list(connection.scalars(query))

    def learned_corrections(self, project_id: int) -> dict[str, int]:
        """How many corrections there were to learn from when each version was made, by the retrains' versions."""
        log, made = correction_revisions.c, retrains.c
        first = sa.select(sa.func.min(log.event_seq)).where(log.project_id == project_id, log.usable)
        with self.reading() as connection:
            known = np.sort(np.array(connection.scalars(first.group_by(log.annotation_id)).all(), dtype=np.int64))
            mine = sa.select(made.version, made.cutoff_seq).where(made.project_id == project_id)
            rows = connection.execute(mine.where(made.version.is_not(None))).all()
        return {version: int(np.searchsorted(known, cutoff, side="right")) for version, cutoff in rows}
