"""Keeps `data/images` and `data/features` below their size limits.

What was used least recently goes first. What stays, whatever its size: images with a correction, images that a champion
or its ancestors have learned from or that an active retrain has frozen, their features, and what was used a moment ago.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from backend.settings import Settings
from backend.store.registry import Registry
from backend.store.store import Store
from training.data import manifest
from training.errors import DataError
from training.features.cache import Cache, Entry

log = logging.getLogger(__name__)

GB = 10**9
LEFT = 0.9
"""Share of the limit that is left when something is dropped, so that it need not be done every time."""
RECENT_SECONDS = 3600.0
"""What was used since then may be in use now."""


class Needed(NamedTuple):
    """Images that must stay, by their hashes. Their features stay where a training has used others `since` then: an
    encoder that is trained leaves features behind that nobody needs."""

    images: frozenset[str]
    since: float


def usage(settings: Settings) -> dict[str, float]:
    """What the report of `captioner status` says of the disk, in bytes."""
    return {
        "images": _size(settings.data_dir / "images"),
        "images_limit": settings.images_gb * GB,
        "features": _size(settings.data_dir / "features"),
        "features_limit": settings.features_gb * GB,
        "free": shutil.disk_usage(settings.data_dir).free,
    }


def reclaim(settings: Settings, store: Store) -> None:
    """Drop what is beyond the limits. One process at a time does it; another one returns at once."""
    found = usage(settings)
    excess = {name: found[name] - LEFT * found[f"{name}_limit"] for name in ("images", "features")}
    over = [name for name in excess if found[name] > found[f"{name}_limit"]]
    if not over:
        return
    with suppress(Timeout), FileLock(settings.data_dir / "space.lock", timeout=0):
        needed = _needed(settings, store)
        for name in over:
            drop = _drop_images if name == "images" else _drop_features
            freed = drop(settings.data_dir / name, excess[name], needed)
            log.info("%.2f GB of data/%s are dropped, used least recently.", freed / GB, name)


def forget_features(settings: Settings, sha256: str) -> int:
    """Drop the cached features of an image; how many there were."""
    gone = 0
    for folder in (settings.data_dir / "features").glob("*"):
        if (folder / "shape.json").exists():
            cache = Cache.opened(folder)
            names = {entry.name for entry in cache.entries() if entry.name.partition("-")[0] == sha256}
            if names:
                cache.drop(names)
            gone += len(names)
    return gone


def _needed(settings: Settings, store: Store) -> Needed:
    registry = Registry(store)
    images, manifests, since = store.corrected_images(), set(), []
    for name in set(registry.champions().values()):
        champion = registry.get(name)
        manifests |= {version.manifest for version in registry.lineage(champion)}
        since.append(registry.get(champion.parent).created_at.timestamp() if champion.parent else 0.0)
    for project in store.projects():
        active = [retrain.snapshot for retrain in store.retrains(project.id, limit=5) if retrain.active]
        manifests |= {settings.data_dir / "snapshots" / snapshot / "manifest.jsonl" for snapshot in active}
    for path in manifests:
        if path is not None and path.exists():
            images |= {row.sha256 for row in manifest.load(path, hashes=False)}
    return Needed(frozenset(images), min(since, default=0.0))


def _drop_images(root: Path, excess: float, needed: Needed) -> float:
    """Remove image files of `excess` bytes, and what the index knows of them."""
    files: dict[str, Path] = {}
    entries = []
    for path in root.glob("??/*.*"):
        with suppress(OSError):
            about = path.stat()
            files[path.relative_to(root).as_posix()] = path
            entries.append(Entry(path.relative_to(root).as_posix(), about.st_mtime, about.st_size))
    gone = _oldest(entries, excess, {name for name in files if Path(name).stem in needed.images})
    for entry in gone:
        files[entry.name].unlink(missing_ok=True)
    names = {entry.name for entry in gone}
    for path in root.glob("index/??/*.json") if names else ():
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(path.read_bytes())["file"] in names:
                path.unlink()
    return sum(entry.size for entry in gone)


def _drop_features(root: Path, excess: float, needed: Needed) -> float:
    """Drop cached features of `excess` bytes."""
    caches: dict[str, Cache] = {}
    entries: list[Entry] = []
    kept: set[str] = set()
    for folder in root.iterdir():
        if not (folder / "shape.json").exists():
            continue
        try:
            caches[folder.name] = cache = Cache.opened(folder)
        except DataError as error:
            log.warning("%s", error)
            continue
        found = [entry._replace(name=f"{folder.name}/{entry.name}") for entry in cache.entries()]
        entries += found
        if max((entry.used for entry in found), default=0.0) >= needed.since:
            kept |= {entry.name for entry in found if _image(entry) in needed.images}
    gone = _oldest(entries, excess, kept)
    for name, cache in caches.items():
        if mine := {each.name.partition("/")[2] for each in gone if each.name.startswith(f"{name}/")}:
            cache.drop(mine)
    return sum(entry.size for entry in gone)


def _oldest(entries: Iterable[Entry], excess: float, kept: Collection[str]) -> list[Entry]:
    """The entries, used least recently, that make up `excess` bytes, or all that may go."""
    gone: list[Entry] = []
    for entry in sorted(entries, key=lambda each: each.used):
        if excess <= 0:
            break
        if entry.name not in kept and entry.used < time.time() - RECENT_SECONDS:
            gone.append(entry)
            excess -= entry.size
    return gone


def _image(entry: Entry) -> str:
    """The hash of the image of a cached entry."""
    return entry.name.partition("/")[2].partition("-")[0]


def _size(folder: Path) -> int:
    """Bytes of all files in a folder; those that vanish meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def about(disk: dict[str, Any]) -> str:
    """The line of `captioner status`."""
    parts = (f"{name} {disk[name] / GB:.1f} of {disk[f'{name}_limit'] / GB:g} GB" for name in ("images", "features"))
    return f"{', '.join(parts)}; {disk['free'] / GB:.1f} GB are free"
