from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from backend.domain.corrections import Task
from backend.domain.errors import UnreachableImageError
from backend.domain.splits import is_blind
from backend.images.archive import ImageStore
from backend.images.cache import Images, LocalImage
from backend.retraining.attempt import snapshot
from backend.retraining.heartbeat import Heartbeat
from backend.retraining.snapshot import RECORD, PostponedError, Snapshot, record_of
from backend.settings import Settings
from backend.store.registry import ModelVersion, Registry
from backend.store.retrains import MAX_POSTPONED, Retrain
from backend.store.store import Project, Store
from tests.factories import correction, draft, picture, saved, settings
from tests.fakes import Answer, Host, host
from training.data import manifest
from training.errors import DataError, TrainingError


def _taken(
    data: Path, studio: Host, texts: list[str], deleted: tuple[int, ...] = (), origin: str | None = None, **environ: str
) -> list[manifest.Row]:
    """The rows of a snapshot of one correction for each text; images are gone of those Label Studio does not answer."""
    configured = settings(data, LABEL_STUDIO_URL=studio.url, **environ)
    return _attempt(configured, _frozen(configured, texts, deleted, origin)).rows


def _frozen(
    configured: Settings, texts: list[str], deleted: tuple[int, ...] = (), origin: str | None = None
) -> tuple[Store, Retrain]:
    """A retrain of one correction for each text."""
    store = Store(configured.database_url)
    store.migrate()
    store.record(saved(*(correction(number, text, origin=origin) for number, text in enumerate(texts, start=1))))
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    store.record(saved(deleted_annotations=deleted))
    frozen = store.freeze_retrain(claimed)
    assert frozen is not None
    return store, frozen


def _attempt(configured: Settings, of: tuple[Store, Retrain]) -> Snapshot:
    return snapshot.take(configured, *of, Heartbeat(*of), ImageStore(configured))


def _serve(studio: Host, *numbers: int) -> None:
    for number in numbers:
        studio.answers[f"/data/upload/1/{number}.jpg"] = Answer(body=picture((number, 7, 9)))


def test_images_that_cannot_be_had_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with host() as studio:
        _serve(studio, 1, 3)
        rows = _taken(tmp_path, studio, ["one", "two", "three"])
    assert [row.references for row in rows] == [("one",), ("three",)]
    assert "1 of 3 corrections are left out, the first: " in caplog.text


def test_on_a_full_disk_no_retrain_begins_without_what_cannot_be_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it was postponed: hosts may stay away for good, disks are freed."""

    def full(path: Path, content: bytes, durable: bool = True) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("backend.images.cache.write", full)
    with host() as studio:
        _serve(studio, 1)
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url)
        store, frozen = _frozen(configured, ["one", "two"])
        with pytest.raises(PostponedError, match=r"No space left on device\.$"):
            _attempt(configured, (store, replace(frozen, postponed=MAX_POSTPONED)))


def test_one_bad_correction_does_not_keep_the_others_from_being_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Captions without a word, half a character, and an image that fails in a way nobody thought of."""
    local = Images.local

    def failing(
        self: Images, reference: str, task: Task, project: Project | None = None, whole: bool = False
    ) -> LocalImage:
        if task.id == 4:
            raise KeyError("a surprise")
        return local(self, reference, task, project, whole)

    monkeypatch.setattr(Images, "local", failing)
    texts = ["a red box", "...", "hi \ud83d there", "unlucky", "a\u2028blue\x85box"]
    with host() as studio:
        _serve(studio, 1, 2, 3, 4, 5)
        rows = _taken(tmp_path, studio, texts)
    assert [row.references for row in rows] == [("a red box",), ("hi there",), ("a blue box",)]
    assert "2 of 5 corrections are left out, the first: Annotation 2 has no word in it." in caplog.text
    assert "a surprise" in caplog.text


def test_without_corrections_there_is_nothing_to_do(tmp_path: Path) -> None:
    with host() as studio, pytest.raises(TrainingError, match=r"^Project 1 has no corrections left to learn from\.$"):
        _taken(tmp_path, studio, ["a picture"], deleted=(1,))


def test_what_people_let_stand_weighs_less_than_what_they_wrote(tmp_path: Path) -> None:
    with host() as studio:
        _serve(studio, 1)
        accepted, written = (
            _taken(tmp_path / origin, studio, ["a red box"], origin=origin, CAPTIONER_ACCEPTED_WEIGHT="0.25")
            for origin in ("prediction", "prediction-changed")
        )
    assert [row.weight for row in accepted] == [0.25]
    assert [row.weight for row in written] == [1.0]


def test_captions_of_blind_images_judge_and_are_not_learnt(tmp_path: Path) -> None:
    numbers = range(1, 41)
    with host() as studio:
        _serve(studio, *numbers)
        rows = _taken(tmp_path, studio, [f"picture {number}" for number in numbers], CAPTIONER_BLIND_SHARE="0.3")
    blind = {row.sha256 for row in rows if row.split == manifest.BLIND}
    assert blind == {row.sha256 for row in rows if is_blind(row.sha256, 0.3)}
    assert 4 <= len(blind) <= 20
    assert {row.split for row in rows} == {manifest.TRAIN, manifest.DEV, manifest.HELD_OUT, manifest.BLIND}


def test_images_that_were_seen_keep_their_place_when_the_share_changes(tmp_path: Path) -> None:
    numbers = range(1, 22)
    taken = []
    with host() as studio:
        _serve(studio, *numbers)
        for share, upto in (("0.2", 15), ("0.9", 20), ("0", 21)):
            configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url, CAPTIONER_BLIND_SHARE=share)
            store, frozen = _frozen(configured, [f"picture {number}" for number in range(1, upto + 1)])
            taken.append({row.sha256: row.split for row in _attempt(configured, (store, frozen)).rows})
            store.finish_retrain(frozen, state="done", outcome="")
    first, raised, lowered = taken
    assert {sha256: raised[sha256] for sha256 in first} == first
    assert list(raised.values())[15:].count(manifest.BLIND) >= 3, "of new images"
    assert {sha256: lowered[sha256] for sha256 in raised} == raised


def test_a_caption_is_blind_only_where_no_draft_was_shown(tmp_path: Path) -> None:
    with host() as studio:
        _serve(studio, *range(1, 7))
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url, CAPTIONER_BLIND_SHARE="1")
        store = Store(configured.database_url)
        store.migrate()
        store.add_drafts(1, [draft(2, text="a dot"), draft(3, text=""), draft(5, text="")])
        made = [correction(1, "one"), correction(2, "two"), correction(3, "three"), correction(4, "four")]
        made[3] = replace(made[3], origin="prediction-changed")  # a draft that nobody recorded
        made += [replace(correction(5, "five"), parent_prediction=9), replace(correction(6, "six"), origin="manual")]
        store.record(saved(*made))
        rows = _attempt(configured, _frozen(configured, [])).rows
    splits = {row.references[0]: row.split for row in rows}
    drafted = {text for text, split in splits.items() if split == manifest.HELD_OUT}
    assert drafted == {"two", "four"}, "they judge among the other corrections, and are not learned"
    assert {text for text, split in splits.items() if split == manifest.BLIND} == {"one", "three", "five", "six"}


@pytest.mark.parametrize("address", ["memory://pairs", "kept"])
def test_the_same_pairs_are_trained_when_their_source_is_gone(tmp_path: Path, address: str) -> None:
    url = address if ":" in address else str(tmp_path / address)
    with host() as studio:
        _serve(studio, *range(1, 13))
        configured = settings(tmp_path / "data", LABEL_STUDIO_URL=studio.url, CAPTIONER_IMAGES_URL=url)
        of = _frozen(configured, [f"picture {number}" for number in range(1, 13)])
        first = _attempt(configured, of)
        studio.answers.clear()
        shutil.rmtree(configured.data_dir / "images")
        again = _attempt(configured, of)
    assert again == first
    assert manifest.content_hash(again.rows) == manifest.content_hash(manifest.load(first.manifest))
    assert all(manifest.hash_file(row.image) == row.sha256 for row in again.rows)


def test_a_later_snapshot_has_the_images_of_an_earlier_one(tmp_path: Path) -> None:
    with host() as studio:
        _serve(studio, 1, 2)
        configured = settings(
            tmp_path / "data", LABEL_STUDIO_URL=studio.url, CAPTIONER_IMAGES_URL=str(tmp_path / "kept")
        )
        store, frozen = _frozen(configured, ["one", "two"])
        first = _attempt(configured, (store, frozen))
        studio.answers.clear()
        shutil.rmtree(configured.data_dir / "images")
        _serve(studio, 3)
        store.record(saved(correction(3, "three")))
        store.finish_retrain(frozen, state="done", outcome="")
        later = _attempt(configured, _frozen(configured, []))
    assert later.rows[:2] == first.rows
    assert [row.references for row in later.rows] == [("one",), ("two",), ("three",)]


def test_a_store_that_cannot_be_reached_freezes_nothing(tmp_path: Path) -> None:
    with host() as studio:
        _serve(studio, 1)
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url, CAPTIONER_IMAGES_URL="nowhere://bucket")
        of = _frozen(configured, ["one"])
        with pytest.raises(UnreachableImageError, match=r"^The store nowhere://bucket \(CAPTIONER_IMAGES_URL\)"):
            _attempt(configured, of)
    assert not (tmp_path / "snapshots").exists()


def test_a_damaged_image_is_fetched_again_before_anything_is_frozen(tmp_path: Path) -> None:
    with host() as studio:
        _serve(studio, 1, 2)
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url)
        of = _frozen(configured, ["one", "two"])
        for number in (1, 2):
            damaged = Images(configured).local(f"/data/upload/1/{number}.jpg", Task(number, 1, None))
            damaged.path.write_bytes(b"damaged")
        rows = _attempt(configured, of).rows
    assert [manifest.hash_file(row.image) for row in rows] == [row.sha256 for row in rows]


def test_images_that_are_gone_everywhere_fail_the_attempt(tmp_path: Path) -> None:
    with host() as studio:
        _serve(studio, 1, 2)
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url)
        of = _frozen(configured, ["one", "two"])
        _attempt(configured, of).rows[1].image.unlink()
        with pytest.raises(DataError, match=r"^1 of 2 images of the snapshot 1-\d are gone or damaged here and in /"):
            _attempt(configured, of)


def test_a_snapshot_tells_what_it_was_frozen_from(tmp_path: Path) -> None:
    with host() as studio:
        _serve(studio, *range(1, 21))
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url)
        store, frozen = _frozen(configured, [f"picture {number}" for number in range(1, 21)])
        Registry(store).register(ModelVersion("p1-v1", tmp_path, project_id=1))
        Registry(store).promote(1, "p1-v1", reason="better", by="gate")
        path, rows = _attempt(configured, (store, frozen))
    record = record_of(path)
    assert record is not None
    assert (record.snapshot, record.project, record.cutoff) == (frozen.snapshot, 1, frozen.cutoff_seq)
    assert (record.parent, record.captions) == ("p1-v1", 20)
    assert record.release.startswith("label-studio-captioner ")
    assert record.sha256 == manifest.hash_file(path)
    assert record.content == manifest.content_hash(rows)
    assert sum(record.images.values()) == 20
    assert record.images["train"] == sum(row.split == manifest.TRAIN for row in rows)
    assert sorted(each.name for each in path.parent.iterdir()) == ["manifest.jsonl", RECORD]


def test_a_changed_manifest_is_not_trained_on(tmp_path: Path) -> None:
    with host() as studio:
        _serve(studio, 1, 2)
        configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url)
        of = _frozen(configured, ["one", "two"])
        path, rows = _attempt(configured, of)
        frozen = path.read_bytes()
        path.write_bytes(frozen.replace(b"two", b"too"))
        with pytest.raises(DataError, match=r"manifest\.jsonl has been changed since it was frozen on 20\d\d-"):
            _attempt(configured, of)
        path.write_bytes(frozen)
        assert _attempt(configured, of).rows == rows
        path.with_name(RECORD).write_text(json.dumps({"sha256": "9f"}))
        with pytest.raises(DataError, match=r"^The record .*snapshot\.json of a snapshot cannot be read: "):
            _attempt(configured, of)
        path.with_name(RECORD).unlink()
        path.write_bytes(frozen.replace(b"two", b"too"))
        assert _attempt(configured, of).rows[1].references == ("too",), "as snapshots were before they had a record"
