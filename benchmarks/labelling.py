"""One learning curve: images of a pool are labelled a few at a time, and the captioner retrains as in production.

Corrections are chosen by a strategy with its control share; "random" alone takes what comes, near duplicates too, as
people do without any. The champion retrains where the backend would, on what is new, and always serves: the gate is
measured elsewhere. A curve is one file, in which every draft stands with its signals, so that whatever is asked of it
later needs no retrain. An ended run goes on after the last step that was written.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.domain.corrections import corrections_until_retrain
from backend.settings import Settings
from benchmarks.adaptation import retraining_data
from benchmarks.adaptation_scenarios import mentions
from benchmarks.annotator import corrected
from benchmarks.labelling_pool import Pool
from training import metrics
from training.captioner import checkpoint
from training.captioner.captioner import BATCH, Captioner
from training.continual.incremental import retrain
from training.data import manifest
from training.data.manifest import Row
from training.decoding.beam_search import Hypothesis
from training.decoding.signals import Signals
from training.evaluation.evaluate import hypotheses
from training.features.features import Inputs
from training.metrics.words import word_edits
from training.runtime.files import atomic_file
from training.selection import calibration
from training.selection.disagreement import SAMPLED, disagreement
from training.selection.strategies import Candidates, select, shortlist
from training.vocabulary import tokenize

BEAM = 2
"""Of all drafts here: it takes half the time of a wider one, and orders captioners as well."""

GROWN = 0.5
"""By how much labels have to grow for the next retrain; with the backend's quarter, and its fifty at most, it would
retrain eleven times and not seven, and two hours would not suffice."""


@dataclass(frozen=True)
class Plan:
    """Images are chosen `each` at a time up to `most`; after each of `retrains` labels the champion retrains."""

    each: int = 25
    most: int = 400
    retrains: tuple[int, ...] = ()

    @classmethod
    def as_in_production(cls, each: int = 25, most: int = 400) -> Plan:
        """Retrains where the backend would begin one, but for those before the labels have grown by GROWN. The last one
        comes with the last labels, so that a curve ends where it is compared."""
        found: list[int] = []
        for labels in range(each, most, each):
            known = found[-1] if found else 0
            is_due = not corrections_until_retrain(known, labels - known, 0.0, Settings().retrain_every)
            if is_due and labels >= known * (1 + GROWN):
                found.append(labels)
        return cls(each, most, (*found, most))


def accepts(draft: str, references: Sequence[str]) -> bool:
    """Whether an annotator would change at most one word of it."""
    return min(word_edits(draft, text) for text in references) <= 1


def nearly_accepts(draft: str, references: Sequence[str]) -> bool:
    """Whether at most a third of the words are to be changed: where one word is too strict to measure by."""
    return any(3 * word_edits(draft, text) <= len(tokenize(text)) for text in references)


class Curve:
    """What is labelled and what it teaches; all of it is in `kept` after each step."""

    def __init__(self, pool: Pool, base: Path, strategy: str, seed: int, plan: Plan, out: Path, cache: Path) -> None:
        self._pool, self._base, self._strategy, self._seed, self._plan = pool, base, strategy, seed, plan
        self.kept, self._checkpoints, self._cache = out.with_suffix(".json"), out, cache
        self._rows = {row.sha256: row for row in pool.rows}
        self._labels: list[dict[str, Any]] = []  # one an image
        self._points: list[dict[str, Any]] = []  # one a champion
        self._current: Captioner | None = None
        self._drafts: dict[str, Hypothesis] = {}  # the champion's, by image of the pool
        self._sampled: dict[str, float] = {}  # disagreements of its captions
        self._directions = np.zeros((0, 0), np.float32)  # of the labelled images
        if self.kept.exists():
            found = json.loads(self.kept.read_text(encoding="utf-8"))
            self._labels, self._points = found["labels"], found["points"]

    def run(self) -> None:
        while True:
            labels = len(self._labels)
            if labels in {0, *self._plan.retrains} and not (self._points and self._points[-1]["labels"] == labels):
                self._learn()
            elif labels < self._plan.most:
                self._label()
            else:
                break
            self._keep()
        shutil.rmtree(self._checkpoints, ignore_errors=True)

    def _learn(self) -> None:
        """Retrain on the labels, unless there are none, and score what comes of it."""
        labels, took = len(self._labels), 0.0
        if labels:
            begun, out = time.monotonic(), self._checkpoints / str(labels)
            shutil.rmtree(out, ignore_errors=True)
            learnt = {each["image"] for each in self._labels[: self._points[-1]["labels"]]}
            data = retraining_data(
                [self._correction(each) for each in self._labels], self._pool.base.rows, learnt=learnt
            )
            seed = f"{self._seed}-{labels}"
            self._current = retrain(self._champion, data, out, seed=seed, cache_dir=self._cache)
            shutil.rmtree(self._checkpoints / str(self._points[-1]["labels"]), ignore_errors=True)
            took = time.monotonic() - begun
        self._drafts, self._sampled = {}, {}
        drafts = self._drafted(self._pool.scored)
        texts, references = [each.text for each in drafts], [row.references for row in self._pool.scored]
        fixed = [corrected(text, several) for text, several in zip(texts, references, strict=True)]
        edits = [word_edits(text, other) for text, other in zip(texts, fixed, strict=True)]
        self._points.append(
            {
                "labels": labels,
                "seconds": took,
                "edits": edits,
                "mean_edits": sum(edits) / len(edits),
                "cider_d": metrics.cider_d(texts, references).value,
                "length": metrics.mean_length(texts),
                "share": sum(mentions([text], self._pool.subject) for text in texts) / len(texts),
                "drafts": [self._record(each, row) for each, row in zip(drafts, self._pool.scored, strict=True)],
            }
        )
        shown = {name: value for name, value in self._points[-1].items() if name not in {"edits", "drafts"}}
        print(json.dumps({"curve": self.kept.stem, **shown}), flush=True)

    def _label(self) -> None:
        """Choose images by the champion's drafts, and correct these drafts."""
        done = {each["image"] for each in self._labels}
        waiting = [row for row in self._pool.rows if row.sha256 not in done]
        controls = {row.sha256: control for row, control in self._chosen(waiting)}
        chosen = [self._rows[sha256] for sha256 in controls]
        for row, draft in zip(chosen, self._drafted(chosen), strict=True):
            self._labels.append(
                {
                    "image": row.sha256,
                    "control": controls[row.sha256],
                    "of_subject": mentions(row.references, self._pool.subject),
                    "correction": corrected(draft.text, row.references),
                    "references": list(row.references),
                    **self._record(draft, row),
                }
            )

    def _chosen(self, waiting: Sequence[Row]) -> list[tuple[Row, bool]]:
        """The next images, and whether each is of the control share."""
        count, seed = self._plan.each, zlib.crc32(f"{self._seed}-{len(self._labels)}".encode())
        if self._strategy == "random":
            order = np.random.default_rng(seed).permutation(len(waiting))[:count]
            return [(waiting[number], False) for number in order]
        if not self._drafts:
            everything = self._drafted(self._pool.rows)
            self._drafts = {row.sha256: draft for row, draft in zip(self._pool.rows, everything, strict=True)}
        drafts = [self._drafts[row.sha256] for row in waiting]
        records = [self._record(draft, row) for draft, row in zip(drafts, waiting, strict=True)]
        found = Candidates(
            self._chances(drafts, records),
            np.array([each.signals.margin if each.signals else math.nan for each in drafts]),
            _features(drafts),
        )
        if self._strategy == "disagreement":
            of = shortlist(found, seed=seed)
            found = replace(found, disagreements=self._disagreements(waiting, of.tolist()))
        known = _features([self._drafts[each["image"]] for each in self._labels]) if self._labels else None
        space = self._champion.feature_space
        selected = select(found, count, self._strategy, seed=seed, known=known, space=space)
        return [(waiting[each.index], each.is_control) for each in selected]

    def _chances(self, drafts: Sequence[Hypothesis], records: Sequence[dict[str, Any]]) -> np.ndarray:
        """Of each draft, from the corrections so far; before there are enough, the probability of its words."""
        accepted = [accepts(each["draft"], each["references"]) for each in self._labels]
        learned = calibration.fit(values(self._labels), np.array(accepted, bool)) if accepted else None
        return np.array([each.score for each in drafts]) if learned is None else learned.chances(values(records))

    def _disagreements(self, rows: Sequence[Row], of: Sequence[int]) -> np.ndarray:
        """Of captions that are sampled of these rows, once by each champion; nan for the others."""
        missing = [rows[number].sha256 for number in of if rows[number].sha256 not in self._sampled]
        inputs, decoding = Inputs(self._champion, rows, self._cache), self._champion.decoding.sampling()
        for first in range(0, len(missing), BATCH):
            batch = missing[first : first + BATCH]
            with torch.inference_mode():
                several = self._champion.generate_n_best(inputs.grid(batch), SAMPLED, decoding)
            for sha256, captions in zip(batch, several, strict=True):
                self._sampled[sha256] = disagreement([each.text for each in captions])
        found = np.full(len(rows), np.nan)
        found[list(of)] = [self._sampled[rows[number].sha256] for number in of]
        return found

    def _record(self, draft: Hypothesis, row: Row) -> dict[str, Any]:
        """The draft as it is kept, with its signals; the last is its image's similarity to the nearest corrected."""
        signals = [*(draft.signals or [math.nan] * len(Signals._fields)), self._similarity(draft)]
        return {"draft": draft.text, "signals": [None if math.isnan(each) else round(each, 5) for each in signals]}

    def _similarity(self, draft: Hypothesis) -> float:
        space, labels = self._champion.feature_space, len(self._labels)
        if space is None or draft.feature is None or not labels:
            return math.nan
        if len(self._directions) != labels:
            missing = [self._rows[each["image"]] for each in self._labels[len(self._directions) :]]
            new = space.directions(_features(self._drafted(missing)))
            self._directions = np.concatenate([self._directions, new]) if len(self._directions) else new
        one = space.directions(np.frombuffer(draft.feature, np.float16)[None])[0]
        return float((self._directions @ one).max())

    @property
    def _champion(self) -> Captioner:
        if self._current is None:
            labels = self._points[-1]["labels"] if self._points else 0
            self._current = checkpoint.load(self._checkpoints / str(labels) if labels else self._base)
        return self._current

    def _drafted(self, rows: Sequence[Row]) -> list[Hypothesis]:
        if self._drafts and all(row.sha256 in self._drafts for row in rows):
            return [self._drafts[row.sha256] for row in rows]
        decoding = replace(self._champion.decoding.quick(), beam=BEAM)
        return hypotheses(self._champion, rows, decoding, self._cache, signals=True)

    def _correction(self, label: dict[str, Any]) -> Row:
        return replace(self._rows[label["image"]], references=(label["correction"],), split=manifest.TRAIN)

    def _keep(self) -> None:
        content = {
            "strategy": self._strategy,
            "seed": self._seed,
            "scored": [list(row.references) for row in self._pool.scored],
            "labels": self._labels,
            "points": self._points,
        }
        with atomic_file(self.kept) as unfinished:
            unfinished.write_text(json.dumps(content), encoding="utf-8")


def values(records: Sequence[dict[str, Any]]) -> np.ndarray:
    """The signals (N, F) of drafts as they are kept, nan where one is unknown."""
    return np.array([each["signals"] for each in records], dtype=float)


def _features(drafts: Sequence[Hypothesis]) -> np.ndarray:
    """Pooled features (N, C)."""
    return np.stack([np.frombuffer(each.feature, np.float16) for each in drafts if each.feature is not None])
