"""What is asked for again and again takes no longer the more a project has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from backend.corrections.reconcile import reconcile
from backend.domain.corrections import Draft
from backend.drafts import calibrating, waiting
from backend.store.database import now
from backend.store.drafts.refreshes import DONE, LIVE
from backend.store.registry import PASSED, REJECTED, ModelVersion, Registry
from backend.store.store import Store
from backend.store.tables import model_versions
from tests.factories import LONG_AGO, correction, draft, saved, settings
from tests.steps import steps

FEW, MANY = 40, 400
SIGNALS = {"margin": 1.0}


def hashed(number: int) -> str:
    return f"{number:064x}"


def drafts(numbers: Sequence[int], project: int = 1) -> list[Draft]:
    return [
        draft(number, project_id=project, image_sha256=hashed(number), signals=SIGNALS, text=f"dot {number}")
        for number in numbers
    ]


def made(folder: Path, number: int) -> Store:
    """So many corrections of drafts by v1, the champion, half as many drafts that wait, and another project with as
    many of each."""
    folder.mkdir()
    store = Store(f"sqlite:///{folder}/captioner.db")
    store.migrate()
    registry = Registry(store)
    registry.register(ModelVersion("v1", folder / "v1"))
    registry.promote(1, "v1", reason="for a test", by="test")
    for project, first in ((1, 1), (2, 10_000)):
        numbers = range(first, first + number)
        store.add_drafts(project, drafts(range(first, first + number + number // 2), project))
        store.record(saved(*(correction(each, project_id=project) for each in numbers)))
        store.add_features(project, "e1", {hashed(each): b"1234" for each in numbers})
    return store


def untidy(store: Store) -> Any:
    """Whether Label Studio has asked for drafts of the first project since; those of the other one are newer."""
    state = store.order_refresh(1, due_at=LONG_AGO, state=DONE, mode=LIVE)
    return lambda: store.is_untidy(state)


def features(store: Store) -> Any:
    newest, _ = store.new_features(1, "e1", 0)
    return lambda: store.new_features(1, "e1", newest)


def follow(store: Store) -> Any:
    """One correction more, of an image that no waiting task shows."""
    store.save_project(1, "<View/>")
    assert store.data_dir
    asks = settings(store.data_dir, LABEL_STUDIO_URL="http://ls.example", LABEL_STUDIO_API_KEY="a" * 40)
    store.save_reused_seq(1, store.revision(1))
    store.record(saved(correction(9_000)))
    reuse: Any = SimpleNamespace(alike=lambda *given: set(), shown=lambda *given: {})
    return lambda: waiting.follow(asks, store, reuse, 1, "v1")


def compare(store: Store) -> Any:
    """With a Label Studio of which one task has changed."""
    listed = {"id": 1, "data": {"image": "/data/upload/1/1.jpg"}, "updated_at": "2026-05-01T00:00:00Z"}
    config = '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'
    client: Any = SimpleNamespace(
        requests=0,
        project=lambda project: {"label_config": config},
        task_summaries=lambda *given: [[listed]],
        full_tasks=lambda project, ids, unreadable: [{**listed, "annotations": []} for _ in ids],
    )
    store.save_failure(1, "none before")
    with store.writing(1) as connection:
        connection.execute(sa.text("UPDATE reconciliations SET compared_at = '2026-01-01 00:00:00'"))
    return lambda: reconcile(1, client, store, complete=False)


def calibration(store: Store) -> Any:
    """Of a project whose scores are calibrated on all but the last correction."""
    store.add_calibration(1, store.revision(1), store.count_answered(1), 0, None, None)
    store.record(saved(correction(9_000)))
    return lambda: calibrating.is_due(store, 1)


ASKED = {"untidy": untidy, "features": features, "follow": follow, "compare": compare, "calibration": calibration}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_again_and_again_takes_no_longer_the_more_a_project_has(tmp_path: Path, name: str) -> None:
    found = []
    for number in (FEW, MANY):
        store = made(tmp_path / str(number), number)
        found.append(steps(store, ASKED[name](store)))
    few, many = found
    assert many < 1.2 * few + 5


def with_versions(store: Store, project: int, number: int) -> None:
    """So many versions, half of them rejected."""
    verdict = {"decision": "promote", "reason": "better"}
    rows = [
        {
            "name": f"p{project}-v{each}",
            "project_id": project,
            "checkpoint": "models",
            "manifest": "snapshots/manifest.jsonl",
            "verdict": verdict,
            "scores": {},
            "state": PASSED if each % 2 else REJECTED,
            "created_at": now(),
            "decision": "promote",
        }
        for each in range(number)
    ]
    known = model_versions.c.keys()
    with store.writing(project) as connection:
        connection.execute(model_versions.insert(), [{k: v for k, v in row.items() if k in known} for row in rows])


VERSIONS: dict[str, Callable[[Store], Any]] = {
    "newest": lambda store: Registry(store).versions(1, limit=20),
    "totals": lambda store: store.totals(1),
}


@pytest.mark.parametrize("name", VERSIONS)
def test_the_newest_versions_are_read_without_the_others(tmp_path: Path, name: str) -> None:
    found = []
    for number in (FEW, MANY):
        store = Store(f"sqlite:///{tmp_path / str(number)}.db")
        store.migrate()
        with_versions(store, 1, FEW if name == "totals" else number)
        with_versions(store, 2, number)
        found.append(steps(store, lambda store=store: VERSIONS[name](store)))  # type: ignore[misc]
    few, many = found
    assert many < 1.2 * few + 5


def test_hashes_of_images_are_added_in_a_time_that_grows_with_their_number_alone(tmp_path: Path) -> None:
    found = []
    for number in (FEW, MANY):
        store = Store(f"sqlite:///{tmp_path / str(number)}.db")
        store.migrate()
        store.record(saved(*(correction(each) for each in range(number))))
        hashes = {f"/data/upload/1/{each}.jpg": hashed(each) for each in range(number)}
        found.append(steps(store, lambda store=store, hashes=hashes: store.add_image_hashes(1, hashes)))  # type: ignore[misc]
        assert [each.image_sha256 for each in store.corrections(1)] == [*hashes.values()]
    few, many = found
    assert many < 2 * MANY / FEW * few


def test_waiting_drafts_of_many_tasks_are_read_in_a_time_that_grows_with_their_number_alone(tmp_path: Path) -> None:
    found = []
    for number in (2 * FEW, 20 * FEW):  # more and fewer than one query asks for
        store = made(tmp_path / str(number), number)
        asked = range(1, number + number // 2 + 1)
        found.append(steps(store, lambda store=store, asked=asked: store.waiting_drafts(1, "v1", asked)))  # type: ignore[misc]
        assert len(store.waiting_drafts(1, "v1", asked)) == number // 2
    few, many = found
    assert many < 1.5 * 10 * few
