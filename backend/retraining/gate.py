"""The gate of a project: the evaluation sets that judge a candidate, and how it and the champion score on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from backend.retraining.reuse import LearnedCorrections
from backend.settings import Settings
from training.captioner.captioner import Captioner
from training.continual.mismatch import image_text_match, mismatch
from training.data import manifest
from training.data.manifest import Row
from training.evaluation.evaluate import evaluate
from training.gate import gate
from training.gate.evaluation_sets import Role
from training.gate.gate import EvaluationSet, Verdict
from training.vocabulary import tokenize

ROLES: dict[str, Role] = {manifest.HELD_OUT: gate.CORRECTIONS, manifest.BLIND: gate.BLIND}
NAMES: dict[Role, str] = {
    gate.CORRECTIONS: "held-out corrections of project {}",
    gate.BLIND: "blind tasks of project {}",
    gate.BASE: "the base's development images",
}
BASE_ROWS = 500
"""Most development images of the base in its evaluation set; champion and candidate caption each of them."""
TRUSTED_ROWS = 500
"""Most held-out corrections that new ones are compared with in the image-text mismatch check."""
SAME_KIND_SHARE = 0.8
"""Share of the words in corrections that the base must know for its development images to be an evaluation set."""


class Contender(NamedTuple):
    """A loaded captioner under the name that verdicts give it."""

    name: str
    captioner: Captioner


class ProjectGate:
    """The frozen evaluation sets of a project. `past` are the project's earlier verdicts; `learned` corrections are
    reused by champion and candidate alike, on the project's own images."""

    def __init__(
        self,
        settings: Settings,
        project_id: int,
        corrected: Sequence[Row],
        base: Sequence[Row],
        past: Sequence[Verdict],
        learned: LearnedCorrections | None = None,
    ) -> None:
        self._settings, self._project_id, self._past, self._learned = settings, project_id, past, learned
        self._cache_dir = settings.data_dir / "features"
        self.sets: dict[Role, list[Row]] = {}
        for row in corrected:
            if row.split in ROLES:
                self.sets.setdefault(ROLES[row.split], []).append(row)
        if base and _same_kind(corrected, base):
            # a fixed sample, so that later verdicts are on the same set
            self.sets[gate.BASE] = sorted(base, key=lambda row: manifest.split_position(row.sha256))[:BASE_ROWS]

    @property
    def pairs(self) -> int:
        """The number of held-out corrections, blind tasks included."""
        return len(self.held_out)

    @property
    def held_out(self) -> list[Row]:
        """The project's rows that judge."""
        return [row for role, rows in self.sets.items() if role != gate.BASE for row in rows]

    def verdict(
        self,
        champion: Contender | None,
        candidate: Contender,
        progress: Callable[[int, int], None] | None = None,
        found_mismatch: str | None = None,
    ) -> Verdict:
        """The verdict on the candidate; a sentence in `found_mismatch` rejects it.

        `progress` is called with the number of captions so far and of all.
        """
        contenders = [candidate] if champion is None else [candidate, champion]
        total, done = len(contenders) * sum(map(len, self.sets.values())), 0
        sets = []
        for role, rows in self.sets.items():
            evaluations = []
            for contender in contenders:

                def report(captioned: int, _: int, before: int = done) -> None:
                    if progress:
                        progress(before + captioned, total)

                evaluation = partial(
                    evaluate,
                    contender.captioner,
                    rows,
                    model=contender.name,
                    evaluation_set=NAMES[role].format(self._project_id),
                    decoding=candidate.captioner.decoding,  # the same for both
                    cache_dir=self._cache_dir,
                    progress=report,
                )
                if self._learned and role != gate.BASE:
                    evaluations.append(self._learned.reused(contender.captioner, rows, evaluation))
                else:
                    evaluations.append(evaluation())
                done += len(rows)
            times = tuple(float(number) for number, _ in enumerate(rows))  # rows come in the order of annotation
            of_champion = evaluations[1] if champion else None
            sets.append(EvaluationSet(role, evaluations[0], of_champion, self._interim_looks(role), times))
        return gate.judge(
            sets,
            policy=self._settings.gate_policy,
            margin=self._settings.gate_margin,
            floor=self._settings.gate_floor,
            mismatch=found_mismatch,
            protect_base=self._settings.protect_base == "on",
        )

    def mismatch(self, champion: Contender, new: Sequence[Row], progress: Callable[[int, int], None]) -> str | None:
        """Why the new captions seem to belong to other images, compared with held-out corrections; else None."""
        trusted = sorted(self.held_out, key=lambda row: row.sha256)[:TRUSTED_ROWS]
        if not new or not trusted:
            return None
        matches = (image_text_match(champion.captioner, rows, self._cache_dir, progress) for rows in (new, trusted))
        return mismatch(*matches)

    def _interim_looks(self, role: Role) -> int:
        """The number of earlier comparisons on this set, however much it has grown since: were new pairs to make it
        another set, a project that grows for long would exceed any limit."""
        roles = {role} if role == gate.BASE else {role, "pooled"}
        return sum(
            any(found.role in roles and found.difference for found in verdict.sets)
            for verdict in self._past
            if not verdict.provisional
        )


def _same_kind(corrected: Sequence[Row], base: Sequence[Row]) -> bool:
    """Whether the captions of the base contain most words of the project's corrections."""
    known = {word for row in base for text in row.references for word in tokenize(text)}
    words = [word for row in corrected for text in row.references for word in tokenize(text)]
    return bool(words) and sum(word in known for word in words) >= SAME_KIND_SHARE * len(words)
