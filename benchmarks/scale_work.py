"""What `benchmarks.scale` has done in the background: comparisons, a snapshot, the gate's pairs, memories, a report."""

from __future__ import annotations

import os
from collections.abc import Callable

import click

from backend.corrections.reconcile import reconcile
from backend.images.archive import ImageStore
from backend.label_studio.client import LabelStudio
from backend.reports import status
from backend.retraining import snapshot
from backend.retraining.gate import ProjectGate
from backend.retraining.heartbeat import Heartbeat
from backend.retraining.history import History
from backend.serving.reuse import Reuse
from backend.store.tables import model_versions
from benchmarks.filling import APART, name
from benchmarks.scale_stores import PROJECT, Backend, cpu_seconds, write_images
from benchmarks.server import resident
from training.data import manifest

CHANGED = 20
GROWTH = 1.25
"""A retrain begins when the corrections have grown by a quarter, so each snapshot is so many times the one before."""
MEANINGS = {
    "reuse_load_s": "s of CPU time until a web process has the corrections and features of the project in memory",
    "reuse_mb": "MB of memory that they take there",
    "held_out": "pairs that each retrain's candidate and champion caption for the gate",
    "few_held_out": "and with few",
}


def measure(many: Backend, few: Backend) -> dict[str, float]:
    """Of each the CPU seconds with many, and how many times as many that are as with few."""
    figures: dict[str, float] = {}
    for what, do in WORK.items():
        big, small = (cpu_seconds(do(each)) for each in (many, few))
        click.echo((what, big, small), err=True)
        figures |= {f"{what}_s": big, f"{what}_ratio": big / small}
    return figures | {"reuse_mb": many.reuse_bytes / 1e6, "held_out": many.held_out, "few_held_out": few.held_out}


def _reconcile(complete: bool) -> Callable[[Backend], Callable[[], object]]:
    def do(backend: Backend) -> Callable[[], object]:
        first = PROJECT * APART + (0 if complete else CHANGED)
        backend.studio.changed[PROJECT] |= set(range(first, first + CHANGED))
        client, store = LabelStudio(backend.studio.url, "a" * 40), backend.services.store
        if not complete and store.reconciliation_state(PROJECT).compared_at is None:
            raise AssertionError("It must have been compared before.")
        return lambda: reconcile(PROJECT, client, store, complete)

    return do


def _reuse(backend: Backend) -> Callable[[], object]:
    def load() -> None:
        before = resident(os.getpid())
        backend.reuse = Reuse(backend.services.store, backend.services.champions)
        with backend.services.champions.in_use(PROJECT) as version:
            assert version
            backend.reuse.update(PROJECT, version)
        backend.reuse_bytes = resident(os.getpid()) - before

    return load


def _snapshot(backend: Backend) -> Callable[[], object]:
    write_images(backend)
    services = backend.services
    requested = services.store.request_retrain(PROJECT, asked=True, every=1)
    assert requested
    claimed = services.store.claim_retrain(requested.id)
    assert claimed
    frozen = services.store.freeze_retrain(claimed)
    assert frozen
    heartbeat = Heartbeat(services.store, frozen)

    def take() -> None:
        images = ImageStore(services.settings)
        backend.rows = snapshot.take(services.settings, services.store, frozen, heartbeat, images).rows

    return take


def _gate(backend: Backend) -> Callable[[], object]:
    """The pairs that judge, those to learn, and what the versions before have learned."""
    services, rows = backend.services, backend.rows
    left, version = float(len(rows)), backend.size.versions
    while left >= 25 and version:
        path = services.settings.data_dir / "snapshots" / f"earlier-{version}" / "manifest.jsonl"
        path.parent.mkdir(parents=True)
        manifest.save(rows[: int(left)], path)
        with services.store.writing(PROJECT) as connection:
            own = model_versions.update().where(model_versions.c.name == name(PROJECT, version))
            connection.execute(own.values(manifest=str(path)))
        left, version = left / GROWTH, version - 1

    def choose() -> None:
        settings, registry = services.settings, services.registry
        history = History(registry, PROJECT, registry.champion(PROJECT), settings.blind_share, ImageStore(settings))
        history.retraining_data([row for row in rows if row.split not in {manifest.HELD_OUT, manifest.BLIND}])
        gate = ProjectGate(settings, PROJECT, history.fair(rows), history.base_judging(), history.verdicts())
        backend.held_out = gate.pairs

    return choose


def _status(backend: Backend) -> Callable[[], object]:
    return lambda: status.report(backend.services.settings)


WORK: dict[str, Callable[[Backend], Callable[[], object]]] = {
    "status": _status,
    "reuse_load": _reuse,
    "reconcile_whole": _reconcile(complete=True),
    "reconcile_incremental": _reconcile(complete=False),
    "snapshot": _snapshot,
    "gate": _gate,
}
