"""`data/images` and `data/features` stay below their limits, and what is needed stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from backend.images.cache import Images
from backend.images.space import reclaim, usage
from backend.reports.status import report, text
from backend.settings import Settings
from backend.store.database import now
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.store import Store
from tests.factories import correction, draft, picture, saved, settings, task
from tests.fakes import Answer, host
from training.data import manifest
from training.data.manifest import Row
from training.features.cache import Cache

HOUR = 3600.0


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return settings(tmp_path, CAPTIONER_IMAGES_GB="0.000005", CAPTIONER_FEATURES_GB="0.0005", CAPTIONER_PORT="1")


@pytest.fixture
def store(here: Settings) -> Store:
    store = Store(here.database_url)
    store.migrate()
    return store


def sha256(digit: str) -> str:
    return digit * 64


def add_images(here: Settings, digits: str) -> None:
    """An image of 1,000 bytes for each digit; the first was used least recently."""
    for age, digit in enumerate(reversed(digits), start=2):
        path = here.data_dir / "images" / (digit * 2) / f"{sha256(digit)}.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (0, time.time() - age * HOUR))


def images(here: Settings) -> str:
    return "".join(sorted(path.name[0] for path in (here.data_dir / "images").glob("??/*.jpg")))


def cache(here: Settings, name: str) -> Cache:
    return Cache(here.data_dir / "features" / name, (12_500,), "float64")


def add_features(here: Settings, name: str, entries: Iterable[str], monkeypatch: pytest.MonkeyPatch, age: int) -> None:
    """An array of 100,000 bytes for each entry, the first used `age` hours ago."""
    of_encoder, present = cache(here, name), time.time()
    for number, entry in enumerate(entries):
        of_encoder.add([entry], np.full((1, 12_500), number))
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda at=present - (age - number) * HOUR: at)
            of_encoder.touch([entry])


def features(here: Settings, name: str) -> list[str]:
    return sorted(entry.name[:1] + entry.name[64:] for entry in cache(here, name).entries())


def learned(
    store: Store, here: Settings, version: str, digits: str, parent: str | None = None, age: float = 0.0
) -> None:
    """A version that was trained on these images, `age` hours ago."""
    path = here.data_dir / "snapshots" / version / "manifest.jsonl"
    manifest.save([Row(Path(f"{digit}.jpg"), sha256(digit), ("a dot",)) for digit in digits], path)
    made = now() - timedelta(hours=age)
    Registry(store).register(ModelVersion(version, here.data_dir, parent=parent, manifest=path, created_at=made))


def test_what_was_used_least_recently_goes_first(here: Settings, store: Store) -> None:
    add_images(here, "fedcba")
    reclaim(here, store)
    assert images(here) == "abcd"
    reclaim(here, store)
    assert images(here) == "abcd", "nothing more than the limit asks for"


def test_what_was_used_within_the_hour_stays(here: Settings, store: Store) -> None:
    add_images(here, "fedcba")
    for path in (here.data_dir / "images").glob("??/*"):
        os.utime(path)
    reclaim(here, store)
    assert images(here) == "abcdef"


def test_images_of_champions_and_their_ancestors_stay(here: Settings, store: Store) -> None:
    learned(store, here, "v1", "f")
    learned(store, here, "v2", "e", parent="v1")
    learned(store, here, "v3", "d", parent="v2")
    Registry(store).promote(DEFAULT, "v2", reason="good", by="test")
    add_images(here, "fedcba")
    reclaim(here, store)
    assert images(here) == "abef"


def test_images_of_an_active_snapshot_and_with_a_correction_stay(here: Settings, store: Store) -> None:
    store.add_drafts(1, [draft(1, image_sha256=sha256("f")), draft(2, image_sha256=sha256("e"))])
    store.record(saved(correction(1)))
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested is not None
    path = here.data_dir / "snapshots" / requested.snapshot / "manifest.jsonl"
    manifest.save([Row(Path("d.jpg"), sha256("d"), ("a dot",))], path)
    add_images(here, "fedcba")
    reclaim(here, store)
    assert images(here) == "abdf"


def test_an_image_that_was_dropped_is_fetched_again(here: Settings, store: Store) -> None:
    with host() as studio:
        studio.answers["/data/upload/1/photo.jpg"] = Answer(body=picture())
        configured = settings(here.data_dir, LABEL_STUDIO_URL=studio.url)
        images_of = Images(configured)
        first = images_of.local("/data/upload/1/photo.jpg", task())
        os.utime(first.path, (0, 0))
        assert images_of.local("/data/upload/1/photo.jpg", task()) == first
        assert first.path.stat().st_mtime > time.time() - HOUR, "it was used"
        os.utime(first.path, (0, 0))
        add_images(here, "cba")
        reclaim(settings(here.data_dir, CAPTIONER_IMAGES_GB="0.0000031"), store)
        assert list((here.data_dir / "images" / "index").rglob("*.json")) == []
        assert not first.path.exists()
        assert images_of.local("/data/upload/1/photo.jpg", task()) == first
        assert len(studio.asked) == 2


def test_features_are_dropped_across_encoders_and_those_of_a_champion_stay(
    here: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned(store, here, "v1", "a")
    Registry(store).promote(1, "v1", reason="good", by="test")
    views = [sha256("a"), sha256("a") + "-full", sha256("b"), sha256("c"), sha256("d")]
    add_features(here, "grid-1", views, monkeypatch, age=30)
    add_features(here, "grid-2", [sha256("e")], monkeypatch, age=40)
    reclaim(here, store)
    assert features(here, "grid-1") == ["a", "a-full", "c", "d"]
    assert features(here, "grid-2") == []
    assert (cache(here, "grid-1").get([sha256("d")]) == 4).all()


def test_features_of_an_encoder_from_before_the_champions_parent_are_not_needed(
    here: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each training of an encoder leaves features behind."""
    learned(store, here, "v1", "a", age=20)
    learned(store, here, "v2", "ab", parent="v1", age=10)
    Registry(store).promote(1, "v2", reason="good", by="test")
    add_features(here, "grid-1", [sha256("a"), sha256("b"), sha256("c")], monkeypatch, age=40)
    add_features(here, "grid-2", [sha256("a"), sha256("b"), sha256("c")], monkeypatch, age=12)
    reclaim(here, store)
    assert features(here, "grid-1") == ["c"]
    assert features(here, "grid-2") == ["a", "b", "c"]
    reclaim(settings(here.data_dir, CAPTIONER_FEATURES_GB="0.0001"), store)
    assert features(here, "grid-1") == []
    assert features(here, "grid-2") == ["a", "b"]


def test_status_tells_both_sizes(here: Settings, store: Store) -> None:
    add_images(here, "fedcba")
    found = usage(here)
    assert (found["images"], found["images_limit"], found["features"]) == (6000, 5000, 0)
    told = text(report(settings(here.data_dir, CAPTIONER_PORT="1", REDIS_URL="redis://127.0.0.1:1/0")))
    assert "\nDisk         images 0.0 of 20 GB, features 0.0 of 20 GB; " in told
