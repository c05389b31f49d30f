"""Where a model version comes from: its training captions, parents and verdict; and what is quarantined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from backend.reports.overview.moves import Term, terms, whom
from backend.reports.overview.project import quarantined, stamp
from backend.retraining.snapshot import change_of, record_of
from backend.store.registry import DROPPED, REJECTED, RELEASED, ModelVersion, Registry
from training.captioner import checkpoint
from training.data import manifest
from training.errors import TrainingError
from training.gate.verdict import Verdict
from training.runtime.console import counted

SHOWN = 3
"""Examples shown of each evaluation set."""


def lineage(registry: Registry, name: str) -> list[dict[str, Any]]:
    """The version and its ancestors as JSON values. Raises RegistryError when there is no such version.

    `captions` and `frozen` describe the snapshot that it was trained on, and are null where it had none; what cannot be
    read has its reason under `error`.
    """
    return [facts(registry, version) for version in registry.lineage(registry.get(name))]


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
            "images": quarantined(version),
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
        if version["state"] == REJECTED:
            release, drop = (f"`captioner quarantine {word} {version['name']}`" for word in ("release", "drop"))
            lines.append(f"  {release} lets the next retrain learn them, {drop} leaves them out for good")
    return "\n".join(lines) or "Nothing is quarantined."


def facts(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    """Where the version comes from and what became of it, as JSON values; see `lineage`."""
    try:
        trained_by = checkpoint.read_info(version.checkpoint)["extra"].get("code", "an earlier release")
    except (TrainingError, KeyError):
        trained_by = None
    frozen = _frozen(version.manifest) if version.manifest else None
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
        "captions": version.manifest and _captions(version.manifest, frozen),
        "learned_first": quarantined(version),
        "frozen": frozen,
        "verdict": version.verdict,
        "champion": [_term(term) for term in terms(registry, version)],
    }


def _term(term: Term) -> dict[str, Any]:
    ends = {"began": term.began, "ended": term.ended}
    moves = {name: move and {**asdict(move), "moved_at": str(move.moved_at)} for name, move in ends.items()}
    return {"project": term.project_id, **moves, "text": f"of {whom(term.project_id)} from {term}"}


def _captions(path: Path, frozen: Mapping[str, Any] | None) -> dict[str, Any]:
    """How many captions of how many images; a snapshot that is unchanged was counted when frozen."""
    if frozen and "error" not in frozen and not frozen["changed"]:
        splits = frozen["images"]
        captions = {"captions": frozen["captions"], "images": sum(splits.values()), "splits": splits}
        return {**captions, "content": frozen["content"]}
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
        return None if record is None else {**asdict(record), "changed": _changed(path, record.sha256, stamp(path))}
    except TrainingError as error:
        return {"error": str(error)}


@lru_cache(maxsize=1000)
def _changed(path: Path, sha256: str, stamp: tuple[int, int] | None) -> str | None:
    """As `change_of`, once for a file of this time and size: a page would hash that of a large project each time."""
    return change_of(path)


def origin(version: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Where the version with these facts comes from: what each is, in a word or two, and the fact."""
    yield "trained by", version["trained_by"] or "unknown, because the checkpoint cannot be read"
    yield "parent", version["parent"] or "none, trained from scratch"
    if version["manifest"] is not None:
        yield "captions", _captions_text(version["captions"])
        if version["learned_first"]:
            yield "learned", f"{counted(version['learned_first'], 'image')} that no version before it had"
        yield from _frozen_text(version["frozen"])


def _lines(version: Mapping[str, Any]) -> Iterable[str]:
    yield f"{version['name']} ({version['state']}), {version['created_at']:.16} UTC"
    yield f"  checkpoint  {version['checkpoint']}"
    if version["manifest"] is not None:
        yield f"  snapshot    {version['snapshot'] or 'none'}: {version['manifest']}"
    for word, fact in origin(version):
        yield f"  {word:10}  {fact}"
    if version["verdict"]:
        verdict = Verdict.from_json(version["verdict"])
        yield f"  verdict     {verdict.decision}{' (provisional)' if verdict.provisional else ''}: {verdict.reason}"
        for change in verdict.forgetting:
            scores = f"{change.bleu_4:+.1f} BLEU-4, {change.cider_d:+.1f} CIDEr-D"
            yield f"  forgetting  {change.of}: {scores} ({counted(change.pairs, 'held-out pair')})"
    for term in version["champion"]:
        yield f"  champion    {term['text']}"
    yield from _worst(version["verdict"])


def _captions_text(captions: Mapping[str, Any]) -> str:
    if "error" in captions:
        return str(captions["error"])
    parts = ", ".join(f"{number} {split}" for split, number in captions["splits"].items())
    images = counted(captions["images"], "image")
    return f"{captions['captions']} of {images} ({parts}), content {captions['content'][:16]}"


def _frozen_text(frozen: Mapping[str, Any] | None) -> Iterable[tuple[str, str]]:
    if frozen is None:
        return
    if "error" in frozen:
        yield "frozen", f"unknown: {frozen['error']}"
        return
    code = frozen["release"] + (f" ({frozen['revision']})" if frozen["revision"] else "")
    at = frozen["created_at"][:16].replace("T", " ")
    yield "frozen", f"{at} UTC up to event {frozen['cutoff']}, under {frozen['parent'] or 'no champion'}, by {code}"
    for each in frozen["forgotten"]:
        yield "forgotten", f"{each['at'][:16].replace('T', ' ')} UTC: {counted(each['captions'], 'caption')} taken out"
    yield "unchanged", f"no: {frozen['changed']}" if frozen["changed"] else f"yes, sha256 {frozen['sha256'][:16]}"


def _worst(verdict: dict[str, Any] | None) -> Iterable[str]:
    if verdict is None:
        return
    for evaluated in Verdict.from_json(verdict).sets:
        for example in evaluated.worst[:SHOWN]:
            yield f"  {example.change:+.0f} on {example.image or 'an image'} of {evaluated.name}"
            yield f"      champion   {example.champion}"
            yield f"      candidate  {example.candidate}"
            yield f"      people     {' | '.join(example.references)}"
