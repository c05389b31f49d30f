"""Where a model version comes from: its training captions, parents and verdict; and what is quarantined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backend.retraining.history import quarantined_rows
from backend.retraining.snapshot import change_of, record_of
from backend.store.registry import DROPPED, REJECTED, RELEASED, ModelVersion, Registry
from training.captioner import checkpoint
from training.data import manifest
from training.errors import TrainingError
from training.gate.gate import Verdict
from training.runtime.console import counted

SHOWN = 3
"""Examples shown of each evaluation set."""


def lineage(registry: Registry, name: str) -> list[dict[str, Any]]:
    """The version and its ancestors as JSON values. Raises RegistryError when there is no such version.

    `captions` and `frozen` describe the snapshot that it was trained on, and are null where it had none; what cannot be
    read has its reason under `error`.
    """
    return [_facts(version) for version in registry.lineage(registry.get(name))]


def shown(versions: Sequence[Mapping[str, Any]]) -> str:
    """What `lineage` found, as text."""
    return "\n".join(line for version in versions for line in _lines(version))


def quarantine(registry: Registry, project_id: int | None) -> list[dict[str, Any]]:
    """Every rejected version with the number of images whose corrections it was the first to learn, as JSON values."""
    return [
        {
            "name": version.name,
            "project": version.project_id,
            "state": version.state,
            "images": len(quarantined_rows(version)),
            "verdict": version.verdict,
        }
        for version in registry.versions(project_id)
        if version.state in {REJECTED, RELEASED, DROPPED}
    ]


def quarantine_text(versions: Sequence[Mapping[str, Any]]) -> str:
    """What `quarantine` found, with the worst captions of each version, as text."""
    lines: list[str] = []
    for version in versions:
        word = {REJECTED: "waits for a decision"}.get(version["state"], version["state"])
        lines.append(f"{version['name']}: {counted(version['images'], 'corrected image')}, {word}")
        lines += _worst(version["verdict"])
    return "\n".join(lines) or "Nothing is quarantined."


def _facts(version: ModelVersion) -> dict[str, Any]:
    try:
        trained_by = checkpoint.read_info(version.checkpoint)["extra"].get("code", "an earlier release")
    except (TrainingError, KeyError):
        trained_by = None
    return {
        "name": version.name,
        "project": version.project_id,
        "state": version.state,
        "created_at": str(version.created_at),
        "checkpoint": str(version.checkpoint),
        "trained_by": trained_by,
        "parent": version.parent,
        "snapshot": version.snapshot,
        "manifest": version.manifest and str(version.manifest),
        "captions": version.manifest and _captions(version.manifest),
        "frozen": version.manifest and _frozen(version.manifest),
        "verdict": version.verdict,
    }


def _captions(path: Path) -> dict[str, Any]:
    try:
        rows = manifest.load(path)
    except TrainingError as error:
        return {"error": str(error)}
    return {
        "captions": sum(len(row.references) for row in rows),
        "images": len(rows),
        "splits": dict(sorted(Counter(row.split for row in rows).items())),
        "content": manifest.content_hash(rows),
    }


def _frozen(path: Path) -> dict[str, Any] | None:
    """When and from what the snapshot with this manifest was frozen, and under `changed` how it has changed since."""
    try:
        record = record_of(path)
        return None if record is None else {**asdict(record), "changed": change_of(path)}
    except TrainingError as error:
        return {"error": str(error)}


def _lines(version: Mapping[str, Any]) -> Iterable[str]:
    yield f"{version['name']} ({version['state']}), {version['created_at']:.16} UTC"
    yield f"  checkpoint  {version['checkpoint']}"
    yield f"  trained by  {version['trained_by'] or 'unknown, because the checkpoint cannot be read'}"
    yield f"  parent      {version['parent'] or 'none, trained from scratch'}"
    if version["manifest"] is not None:
        yield f"  snapshot    {version['snapshot'] or 'none'}: {version['manifest']}"
        yield f"  captions    {_captions_text(version['captions'])}"
        yield from _frozen_lines(version["frozen"])
    if version["verdict"]:
        verdict = Verdict.from_json(version["verdict"])
        yield f"  verdict     {verdict.decision}{' (provisional)' if verdict.provisional else ''}: {verdict.reason}"
        for change in verdict.forgetting:
            scores = f"{change.bleu_4:+.1f} BLEU-4, {change.cider_d:+.1f} CIDEr-D"
            yield f"  forgetting  {change.of}: {scores} ({counted(change.pairs, 'held-out pair')})"
        yield from _worst(version["verdict"])


def _captions_text(captions: Mapping[str, Any]) -> str:
    if "error" in captions:
        return str(captions["error"])
    parts = ", ".join(f"{number} {split}" for split, number in captions["splits"].items())
    images = counted(captions["images"], "image")
    return f"{captions['captions']} of {images} ({parts}), content {captions['content'][:16]}"


def _frozen_lines(frozen: Mapping[str, Any] | None) -> Iterable[str]:
    if frozen is None:
        return
    if "error" in frozen:
        yield f"  frozen      unknown: {frozen['error']}"
        return
    code = frozen["release"] + (f" ({frozen['revision']})" if frozen["revision"] else "")
    at = frozen["created_at"][:16].replace("T", " ")
    yield f"  frozen      {at} UTC up to event {frozen['cutoff']}, under {frozen['parent'] or 'no champion'}, by {code}"
    yield f"  unchanged   {'no: ' + frozen['changed'] if frozen['changed'] else 'yes, sha256 ' + frozen['sha256'][:16]}"


def _worst(verdict: dict[str, Any] | None) -> Iterable[str]:
    if verdict is None:
        return
    for evaluated in Verdict.from_json(verdict).sets:
        for example in evaluated.worst[:SHOWN]:
            yield f"  {example.change:+.0f} on {example.image or 'an image'} of {evaluated.name}"
            yield f"      champion   {example.champion}"
            yield f"      candidate  {example.candidate}"
            yield f"      people     {' | '.join(example.references)}"
