"""What MLflow records of a retrain, read from what the retrain left behind: no caption of anybody, and no image."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from backend.store.registry import ModelVersion, Registry
from backend.store.retrains import CANCELLED, FAILED, Retrain
from training.captioner import checkpoint
from training.data import manifest
from training.errors import DataError, TrainingError
from training.gate.verdict import Scores, SetVerdict, Verdict

log = logging.getLogger(__name__)

STATUS = {FAILED: "FAILED", CANCELLED: "KILLED"}
"""MLflow's words for how a run ended, beside FINISHED."""

LONGEST = 5000
"""Characters that MLflow takes in a description."""


@dataclass(frozen=True)
class Record:
    """A run. `figures` are name, value and step; `files` are texts by their names; `checkpoint` is there for a version
    that can be registered."""

    name: str
    status: str
    started_at: datetime
    ended_at: datetime
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    figures: list[tuple[str, float, int]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    checkpoint: Path | None = None


def record(registry: Registry, retrain: Retrain) -> Record:
    """The run of a retrain that has ended."""
    ended = retrain.ended_at or retrain.requested_at
    tags = {"project": str(retrain.project_id), "retrain": str(retrain.id), "snapshot": retrain.snapshot}
    status, started = STATUS.get(retrain.state, "FINISHED"), retrain.started_at or ended
    outcome = (retrain.outcome or "")[:LONGEST]
    if retrain.state == FAILED:  # the reason may name the address of an image, or a file
        outcome = f"It failed; `captioner train-status --project {retrain.project_id}` says why."
    if retrain.version is None:
        return Record(retrain.snapshot, status, started, ended, tags | {"outcome": outcome})
    version = registry.get(retrain.version)
    tags |= {"version": version.name, "parent": version.parent or "", "outcome": outcome}
    trained, verdict = _trained(version), _verdict(version)
    files = {"report.md": _report(version, outcome, verdict)}
    if verdict:
        tags |= verdict_tags(version)
        files["verdict.json"] = json.dumps(_without_captions(verdict), indent=1) + "\n"
    if version.manifest and (lines := _snapshot(version.manifest)):
        files["snapshot.jsonl"] = lines
    return Record(
        version.name,
        status,
        started,
        ended,
        tags,
        params=dict(_flat(trained.get("training", {}))) | {"data": str(trained.get("data", ""))},
        figures=[each for each in (*_epochs(trained), *_gate(verdict)) if math.isfinite(each[1])],
        files=files,
        checkpoint=version.checkpoint if trained else None,
    )


def verdict_tags(version: ModelVersion) -> dict[str, str]:
    """What changes of a run when its version is judged again."""
    verdict = _verdict(version)
    return {"verdict": verdict.decision, "provisional": str(verdict.provisional).lower()} if verdict else {}


def _trained(version: ModelVersion) -> dict[str, Any]:
    """What the checkpoint says of its training; nothing where it is gone."""
    try:
        found = checkpoint.read_info(version.checkpoint).get("extra")
    except TrainingError as error:
        log.warning("The checkpoint of %s is left out of its run in MLflow: %s", version.name, error)
        return {}
    return found if isinstance(found, dict) else {}


def _verdict(version: ModelVersion) -> Verdict | None:
    return Verdict.from_json(version.verdict) if version.verdict else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def _epochs(trained: Mapping[str, Any]) -> Iterator[tuple[str, float, int]]:
    """The figures of each epoch, counted over all stages, and those of the whole training."""
    history = trained.get("history") or []
    for step, entry in enumerate(history, start=1):
        yield from ((name, float(value), step) for name, value in entry.items() if isinstance(value, int | float))
    for name in ("images", "interpolation"):
        if isinstance(trained.get(name), int | float):
            yield name, float(trained[name]), len(history)
    if isinstance(trained.get("seconds"), int | float):
        yield "training_seconds", float(trained["seconds"]), len(history)


def _gate(verdict: Verdict | None) -> Iterator[tuple[str, float, int]]:
    """BLEU-4 of all held-out pairs, and every score on each evaluation set, in points."""
    if verdict is None:
        return
    yield "gate/pairs", float(verdict.pairs), 0
    yield "gate/provisional", float(verdict.provisional), 0
    for whose, score in (("candidate", verdict.candidate_score), ("champion", verdict.champion_score)):
        if score is not None:
            yield f"gate/{whose}_bleu_4", score.value, 0
    for each in verdict.sets:
        yield f"gate/{each.role}/pairs", float(each.pairs), 0
        for whose, scores in (("candidate", each.candidate), ("champion", each.champion)):
            if scores is not None:
                yield from ((f"gate/{each.role}/{whose}_{name}", value, 0) for name, value in _values(scores))
        if each.difference is not None:
            yield from ((f"gate/{each.role}/difference_{n}", v, 0) for n, v in vars(each.difference).items())


def _values(scores: Scores) -> Iterator[tuple[str, float]]:
    yield from ((name, score.value) for name, score in vars(scores).items())


def _without_captions(verdict: Verdict) -> dict[str, Any]:
    found = verdict.to_json()
    return {**found, "sets": [{name: part for name, part in each.items() if name != "worst"} for each in found["sets"]]}


def _snapshot(path: Path) -> str:
    """The corrections that were frozen: which images by their content, their splits and weights, and of the captions
    only how many there are."""
    try:
        rows = manifest.load(path, hashes=False)
    except DataError as error:
        log.warning("%s is left out of the run in MLflow: %s", path.name, error)
        return ""
    lines = (
        {"sha256": row.sha256, "split": row.split, "weight": row.weight, "captions": len(row.references)}
        for row in rows
    )
    return "".join(json.dumps(line) + "\n" for line in lines)


def _report(version: ModelVersion, outcome: str, verdict: Verdict | None) -> str:
    """The verdict for people."""
    lines = [f"# {version.name}", "", outcome, "", f"Trained from {version.parent or 'nothing'}.", ""]
    if verdict and verdict.sets:
        lines += ["| set | pairs | candidate's BLEU-4 | champion's BLEU-4 |", "| --- | --- | --- | --- |"]
        lines += [_line(each) for each in verdict.sets]
    return "\n".join(lines) + "\n"


def _line(each: SetVerdict) -> str:
    champion = f"{each.champion.bleu_4.value:.1f}" if each.champion else ""
    return f"| {each.name} | {each.pairs} | {each.candidate.bleu_4.value:.1f} | {champion} |"
