from __future__ import annotations

from pathlib import Path

import pytest

from backend import snapshot
from backend.corrections import Task, is_blind
from backend.images import Access, Images, LocalImage
from backend.pulse import Pulse
from backend.store import Store
from tests.factories import correction, picture, saved, settings
from tests.fakes import Answer, Host, host
from training import manifest
from training.errors import TrainingError


def _taken(
    data: Path, studio: Host, texts: list[str], deleted: tuple[int, ...] = (), origin: str | None = None, **environ: str
) -> list[manifest.Row]:
    """The rows of a snapshot of one correction for each text; images are gone of those Label Studio does not answer."""
    configured = settings(data, LABEL_STUDIO_URL=studio.url, **environ)
    store = Store(configured.database_url)
    store.migrate()
    store.record(saved(*(correction(number, text, origin=origin) for number, text in enumerate(texts, start=1))))
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    store.record(saved(deleted_annotations=deleted))
    frozen = store.freeze_retrain(claimed.id, claimed.attempt)
    assert frozen is not None
    return manifest.load(snapshot.take(configured, store, frozen, Pulse(store, frozen)))


def _serve(studio: Host, *numbers: int) -> None:
    for number in numbers:
        studio.answers[f"/data/upload/1/{number}.jpg"] = Answer(body=picture((number, 7, 9)))


def test_images_that_cannot_be_had_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with host() as studio:
        _serve(studio, 1, 3)
        rows = _taken(tmp_path, studio, ["one", "two", "three"])
    assert [row.references for row in rows] == [("one",), ("three",)]
    assert "1 of 3 corrections are left out, the first: " in caplog.text


def test_one_bad_correction_does_not_keep_the_others_from_being_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Captions without a word, half a character, and an image that fails in a way nobody thought of."""
    local = Images.local

    def surprising(self: Images, reference: str, task: Task, access: Access | None = None) -> LocalImage:
        if task.id == 4:
            raise KeyError("a surprise")
        return local(self, reference, task, access)

    monkeypatch.setattr(Images, "local", surprising)
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
