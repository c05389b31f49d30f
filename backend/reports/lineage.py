"""Where a model version comes from: its training captions, parents and verdict; and what is quarantined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

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


def shown(registry: Registry, name: str) -> str:
    """The version and its ancestors, as text. Raises RegistryError when there is no such version."""
    return "\n".join(line for version in registry.lineage(registry.get(name)) for line in _lines(version))


def quarantine(registry: Registry, project_id: int | None) -> str:
    """Every rejected version with the corrections that it was the first to learn, and its worst captions."""
    lines: list[str] = []
    for version in registry.versions(project_id):
        if version.state in {REJECTED, RELEASED, DROPPED}:
            word = {REJECTED: "waits for a decision"}.get(version.state, version.state)
            lines.append(f"{version.name}: {counted(len(quarantined_rows(version)), 'corrected image')}, {word}")
            lines += _worst(version)
    return "\n".join(lines) or "Nothing is quarantined."


def _lines(version: ModelVersion) -> Iterable[str]:
    yield f"{version.name} ({version.state}), {version.created_at:%Y-%m-%d %H:%M} UTC"
    yield f"  checkpoint  {version.checkpoint}"
    try:
        extra = checkpoint.read_info(version.checkpoint)["extra"]
        yield f"  trained by  {extra.get('code', 'an earlier release')}"
    except (TrainingError, KeyError):
        yield "  trained by  unknown, because the checkpoint cannot be read"
    yield f"  parent      {version.parent or 'none, trained from scratch'}"
    if version.manifest is not None:
        yield f"  snapshot    {version.snapshot or 'none'}: {version.manifest}"
        yield f"  captions    {_captions(version)}"
        yield from _frozen(version.manifest)
    if version.verdict:
        verdict = Verdict.from_json(version.verdict)
        yield f"  verdict     {verdict.decision}{' (provisional)' if verdict.provisional else ''}: {verdict.reason}"
        for change in verdict.forgetting:
            scores = f"{change.bleu_4:+.1f} BLEU-4, {change.cider_d:+.1f} CIDEr-D"
            yield f"  forgetting  {change.of}: {scores} ({counted(change.pairs, 'held-out pair')})"
        yield from _worst(version)


def _captions(version: ModelVersion) -> str:
    assert version.manifest
    try:
        rows = manifest.load(version.manifest)
    except TrainingError as error:
        return str(error)
    splits = Counter(row.split for row in rows)
    captions = sum(len(row.references) for row in rows)
    parts = ", ".join(f"{number} {split}" for split, number in sorted(splits.items()))
    return f"{captions} of {counted(len(rows), 'image')} ({parts}), content {manifest.content_hash(rows)[:16]}"


def _frozen(path: Path) -> Iterable[str]:
    """When and from what the snapshot with this manifest was frozen, and whether it has changed since."""
    try:
        record = record_of(path)
        changed = change_of(path)
    except TrainingError as error:
        yield f"  frozen      unknown: {error}"
        return
    if record is not None:
        code = f"{record.release}{f' ({record.revision})' if record.revision else ''}"
        at = record.created_at[:16].replace("T", " ")
        yield f"  frozen      {at} UTC up to event {record.cutoff}, under {record.parent or 'no champion'}, by {code}"
        yield f"  unchanged   {'no: ' + changed if changed else 'yes, sha256 ' + record.sha256[:16]}"


def _worst(version: ModelVersion) -> Iterable[str]:
    if version.verdict is None:
        return
    for evaluated in Verdict.from_json(version.verdict).sets:
        for example in evaluated.worst[:SHOWN]:
            yield f"  {example.change:+.0f} on {example.image or 'an image'} of {evaluated.name}"
            yield f"      champion   {example.champion}"
            yield f"      candidate  {example.candidate}"
            yield f"      people     {' | '.join(example.references)}"
