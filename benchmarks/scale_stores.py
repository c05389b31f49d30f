"""The backends that `benchmarks.scale` compares: filled, with a champion of each project that costs next to nothing."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import sqlalchemy as sa
from flask.testing import FlaskClient

import labeling_config
from backend.drafts import calibrating
from backend.images.addresses import Origin
from backend.label_studio import wire
from backend.serving.reuse import Reuse
from backend.store.database import chunks
from backend.store.tables import tasks as task_rows
from backend.web.app import create_app
from backend.web.services import Services
from backend.web.watcher import Watcher
from benchmarks import filling
from benchmarks.filling import APART, image_of, name
from benchmarks.scale_studio import CONFIG, Studio, content, serving, sha256
from benchmarks.services import PostgreSQL
from training.data.manifest import Row
from training.decoding.beam_search import Hypothesis
from training.decoding.retrieval import RetrievalMemory
from training.decoding.reuse import Correction, FeatureSpace
from training.decoding.signals import Signals
from training.vocabulary import Vocabulary

PROJECT = 1
CHANNELS = 1400
"""Of a pooled feature of the starter's encoder."""
OTHERS = 100
"""Corrections of each other project."""
WAITING_SHARE, UNDRAFTED_SHARE, REJECTED_SHARE = 0.2, 0.05, 0.5
"""Tasks that wait, for each corrected one; corrections that began as no draft; versions that were rejected."""
SIGNALS = Signals(-1.0, 1.0, 0.5, 1.0, 1.0, 1.0)
SPACE = FeatureSpace("e" * 64, np.zeros(CHANNELS, np.float32), np.ones(CHANNELS, np.float32))


@dataclass(frozen=True)
class Size:
    """Of a backend: corrections and versions of its first project, and how many projects there are."""

    corrections: int
    versions: int
    projects: int

    @property
    def waiting(self) -> int:
        return int(WAITING_SHARE * self.corrections)


def cpu_seconds(do: Callable[[], object]) -> float:
    """CPU time that this process takes for it, in all threads: what else runs on the machine makes it no longer."""
    begun = time.process_time()
    do()
    return time.process_time() - begun


class Captioner:
    """Says the same of every image; its features are random, and its memory of captions is a real one."""

    feature_space = SPACE
    device = SimpleNamespace(type="cpu")
    vocabulary = Vocabulary.build(["a man with red small blue balls"])

    def read(self, image: Path) -> Any:
        return image

    def caption_pixels(self, images: Sequence[Any], *, retrieval: Any = None) -> list[Hypothesis]:
        return [
            Hypothesis("a man with red balls", 0.5, (4, 5), feature=feature(each.stem), signals=SIGNALS)
            for each in images
        ]

    def retrieval_with(self, corrections: Sequence[Correction], features: np.ndarray) -> RetrievalMemory | None:
        import torch

        rows = [Row(Path(), each.sha256, (each.caption,)) for each in corrections]
        return RetrievalMemory.build(rows, torch.from_numpy(features), self.vocabulary, 20).prepared() if rows else None


_NOISE = np.random.default_rng(1).standard_normal(2**22 + CHANNELS, np.float32).astype(np.float16).tobytes()


def feature(image_sha256: str) -> bytes:
    """A pooled feature as an encoder would give one: another for each image."""
    start = int(image_sha256[:12], 16) % 2**22
    return _NOISE[2 * start : 2 * (start + CHANNELS)]


@dataclass
class Backend:
    """One of those that are compared."""

    size: Size
    services: Services
    studio: Studio
    client: FlaskClient
    watcher: Watcher
    seconds: float
    new: Iterator[int] = field(default_factory=lambda: count(APART // 2))
    reuse: Reuse | None = None
    reuse_bytes: float = 0.0
    rows: Sequence[Row] = ()
    held_out: int = 0

    @property
    def champion(self) -> str:
        return name(PROJECT, self.size.versions)


def _load(checkpoint: Path, device: str) -> Any:
    return Captioner()


@contextmanager
def filled(folder: Path, size: Size, server: PostgreSQL | None) -> Iterator[Backend]:
    """A backend of this size over SQLite, or over a new database of that server."""
    begun = time.perf_counter()
    studio = Studio(
        {each: _corrections(size, each) + (size.waiting if each == PROJECT else 0) for each in _projects(size)}
    )
    with ExitStack() as stack:
        stack.enter_context(serving(studio))
        environ = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": "a" * 40, "CAPTIONER_BLIND_SHARE": "0.05"}
        if server:
            environ["DATABASE_URL"] = server.url(server.create("scale"))
        services = stack.enter_context(filling.backend(folder, environ, _load))
        for project in _projects(size):
            _fill(services, studio, size, project)
        watcher = Watcher(services)
        watcher.load_champions()
        client = create_app(services).test_client()
        yield Backend(size, services, studio, client, watcher, time.perf_counter() - begun)


def _projects(size: Size) -> range:
    return range(PROJECT, PROJECT + size.projects)


def _corrections(size: Size, project: int) -> int:
    return size.corrections if project == PROJECT else OTHERS


def _fill(services: Services, studio: Studio, size: Size, project: int) -> None:
    store, own = services.store, project == PROJECT
    versions, waiting = (size.versions, size.waiting) if own else (2, 0)
    store.save_project(project, CONFIG)
    filling.add_versions(services, project, versions, REJECTED_SHARE)
    filling.add_corrections(
        services,
        project,
        _corrections(size, project),
        versions,
        content=sha256,
        signals={**SIGNALS._asdict(), "correction_similarity": 0.4},
        undrafted_share=UNDRAFTED_SHARE,
        waiting=waiting,
    )
    if own:
        calibrating.calibrate(store, project)
    ids = range(project * APART, project * APART + studio.tasks[project])
    _mark_as_read(services, studio, project, ids)
    if own:
        for some in chunks(ids, filling.AT_ONCE):
            hashes = [sha256(task) for task in some]
            store.place(project, hashes, services.settings.blind_share)
            store.add_features(project, SPACE.encoder, {each: feature(each) for each in hashes})
        store.save_reused_seq(project, store.revision(project))  # waiting drafts followed each correction as it came


def _mark_as_read(services: Services, studio: Studio, project: int, ids: Sequence[int]) -> None:
    """As a complete comparison leaves the tasks that it finds unchanged."""
    tags = labeling_config.parse(CONFIG)
    mine = task_rows.update().where(task_rows.c.project_id == project, task_rows.c.id == sa.bindparam("task"))
    for some in chunks(ids, filling.AT_ONCE):
        listed = [studio.summary(project, each, whole=False) for each in some]
        read = wire.task_summaries(listed, project, tags)
        rows = [{"task": each.id, "print": each.seen} for each in read]
        with services.store.writing(project, durable=False) as connection:
            connection.execute(mine.values(seen=sa.bindparam("print")), rows)


def write_images(backend: Backend) -> None:
    """The images of all corrected tasks as `Images` keeps them once they were drafted."""
    root, owner = backend.services.settings.data_dir / "images", Origin.of(backend.studio.url)
    for number in range(256):
        for folder in (root / f"{number:02x}", root / "index" / f"{number:02x}"):
            folder.mkdir(parents=True, exist_ok=True)
    for number in range(backend.size.corrections):
        task = PROJECT * APART + number
        shown, found = content(task), sha256(task)
        place = hashlib.sha256(f"{owner}\n{image_of(PROJECT, task)}".encode()).hexdigest()
        name = f"{found[:2]}/{found}.png"
        (root / name).write_bytes(shown)
        known = {"file": name, "sha256": found, "bytes": len(shown), "fetched": time.time()}
        (root / "index" / place[:2] / f"{place}.json").write_text(json.dumps(known))


def sizes_of(services: Services) -> Mapping[str, int]:
    """Bytes of each table with its indexes, and of the whole database."""
    with services.store.reading() as connection:
        kinds: dict[str, str] = {}
        query = "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200"
        if connection.dialect.name == "sqlite":
            rows = connection.execute(sa.text("SELECT name, tbl_name FROM sqlite_master"))
            kinds = {row.name: row.tbl_name for row in rows}
            query = "SELECT name, SUM(pgsize) FROM dbstat GROUP BY name"
        found: dict[str, int] = {}
        for table, size in connection.execute(sa.text(query)):
            owner = kinds.get(table, table)
            found[owner] = found.get(owner, 0) + int(size)
    return found
