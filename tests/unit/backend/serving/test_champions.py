from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backend.domain.errors import ModelUnavailableError
from backend.serving import champions as module
from backend.serving.champions import DEFAULT, Champions
from tests.fakes import Hypothesis, Model
from training.errors import CheckpointError, DataError

A, B = Path("a.jpg"), Path("b.jpg")


def champions(*models: Model) -> Champions:
    """Champions whose checkpoint folders are the models' names."""
    by_name = {model.name: model for model in models}

    def load(checkpoint: Path, device: str) -> Model:
        if checkpoint.name not in by_name:
            raise CheckpointError(f"The folder {checkpoint} holds no checkpoint.")
        return by_name[checkpoint.name]

    return Champions("cpu", load)


def texts(found: Sequence[object]) -> list[str]:
    return [getattr(item, "text", "-") for item in found]


def test_nothing_serves_before_something_does() -> None:
    room = champions()
    assert room.serving(1) is None
    with room.in_use(1) as version:
        assert version is None


def test_captions_come_in_order_with_errors_in_their_place() -> None:
    room = champions(Model("v1"))
    room.serve(1, "v1", Path("v1"))
    found = room.caption("v1", [A, Path("bad.jpg"), B])
    assert texts(found) == ["v1 on a.jpg", "-", "v1 on b.jpg"]
    assert isinstance(found[1], DataError)
    assert room.caption("v1", []) == []


def test_a_project_has_its_own_or_the_default_one() -> None:
    room = champions(Model("own"), Model("default"))
    room.serve(DEFAULT, "default", Path("default"))
    room.serve(7, "own", Path("own"))
    assert (room.serving(7), room.serving(8)) == ("own", "default")
    room.withdraw(7)
    assert room.serving(7) == "default"
    assert room._models.keys() == {"default"}


def test_a_swap_releases_the_old_model_from_memory() -> None:
    models = {"v1": Model("v1"), "v2": Model("v2")}
    old = weakref.ref(models["v1"])
    room = Champions("cpu", lambda checkpoint, device: models.pop(checkpoint.name))
    room.serve(1, "v1", Path("v1"))
    room.caption("v1", [A])
    room.serve(1, "v2", Path("v2"))
    assert room.serving(1) == "v2"
    assert room._models.keys() == {"v2"}
    room.caption("v2", [A])  # the computing thread, too, has let go
    gc.collect()
    assert old() is None


def test_a_version_serving_another_project_stays() -> None:
    room = champions(Model("v1"), Model("v2"))
    room.serve(1, "v1", Path("v1"))
    room.serve(2, "v1", Path("v1"))
    room.serve(1, "v2", Path("v2"))
    assert room._models.keys() == {"v1", "v2"}


def test_a_request_in_progress_keeps_its_version_over_a_swap() -> None:
    room = champions(Model("v1"), Model("v2"))
    room.serve(1, "v1", Path("v1"))
    with room.in_use(1) as version:
        room.serve(1, "v2", Path("v2"))
        assert version == "v1"
        assert texts(room.caption("v1", [A])) == ["v1 on a.jpg"]
        assert room.serving(1) == "v2"
    assert room._models.keys() == {"v2"}
    with pytest.raises(ModelUnavailableError, match="The model v1 is not loaded"):
        room.caption("v1", [A])


def test_a_checkpoint_that_cannot_be_loaded_leaves_the_old_one_serving() -> None:
    room = champions(Model("v1"))
    room.serve(1, "v1", Path("v1"))
    with pytest.raises(ModelUnavailableError, match=r"^The model v2 cannot be loaded: The folder v2 holds"):
        room.serve(1, "v2", Path("v2"))
    assert room.serving(1) == "v1"
    assert "holds no checkpoint" in room.refused()[1]
    room.serve(1, "v1", Path("v1"))
    assert room.refused() == {}


def test_any_failure_to_load_is_told_and_survived() -> None:
    def damaged(checkpoint: Path, device: str) -> Model:
        raise RuntimeError("size mismatch")

    room = Champions("cpu", damaged)
    with pytest.raises(ModelUnavailableError, match="size mismatch"):
        room.serve(1, "v1", Path("v1"))
    assert room.serving(1) is None


def test_a_checkpoint_is_loaded_once_and_its_device_passed_on() -> None:
    loads: list[tuple[str, str]] = []

    def load(checkpoint: Path, device: str) -> Model:
        loads.append((checkpoint.name, device))
        return Model(checkpoint.name)

    room = Champions("cuda:1", load)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda project: room.serve(project, "v1", Path("v1")), range(1, 5)))
    assert loads == [("v1", "cuda:1")]


def waiting_requests(room: Champions, model: Model, gate: threading.Event, *sizes: int) -> list[list[str]]:
    """Caption requests of these sizes that all wait while an image of another request is computed; their answers."""
    with ThreadPoolExecutor(len(sizes) + 1) as pool:
        first = pool.submit(room.caption, model.name, [Path("first.jpg")])
        assert model.started.wait(10)
        answers = []
        for number, size in enumerate(sizes):
            paths = [Path(f"{number}-{place}.jpg") for place in range(size)]
            answers.append(pool.submit(room.caption, model.name, paths))
            with room._changed:  # until it stands in the queue
                assert room._changed.wait_for(lambda wanted=number + 1: len(room._waiting) == wanted, 10)
        gate.set()
        first.result(10)
        return [texts(answer.result(10)) for answer in answers]


def test_waiting_requests_are_computed_together() -> None:
    gate = threading.Event()
    model = Model("v1", gate)
    room = champions(model)
    room.serve(1, "v1", Path("v1"))
    answers = waiting_requests(room, model, gate, 1, 2, 1)
    assert [len(batch) for batch in model.batches] == [1, 4]
    assert answers == [
        [f"v1 on {number}-{place}.jpg" for place in range(size)] for number, size in enumerate((1, 2, 1))
    ]


def test_one_task_does_not_wait_for_hundreds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    gate = threading.Event()
    model = Model("v1", gate)
    room = champions(model)
    room.serve(1, "v1", Path("v1"))
    answers = waiting_requests(room, model, gate, 9, 1)
    assert "1-0.jpg" in model.batches[1]
    assert [len(batch) for batch in model.batches] == [1, 4, 4, 2]
    assert answers[0] == [f"v1 on 0-{place}.jpg" for place in range(9)]


def test_versions_are_never_mixed_in_a_batch_and_none_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    gate = threading.Event()
    first, second = Model("v1", gate), Model("v2")
    room = champions(first, second)
    room.serve(1, "v1", Path("v1"))
    room.serve(2, "v2", Path("v2"))
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(room.caption, "v1", [Path(f"{number}.jpg") for number in range(6)])
        assert first.started.wait(10)
        other = pool.submit(room.caption, "v2", [A])
        with room._changed:
            assert room._changed.wait_for(lambda: len(room._waiting) == 2, 10)
        gate.set()
        assert texts(other.result(10)) == ["v2 on a.jpg"]
        assert texts(long.result(10)) == [f"v1 on {number}.jpg" for number in range(6)]
    assert second.batches == [["a.jpg"]]
    assert sum(len(batch) for batch in first.batches) == 6


def test_a_model_that_fails_fails_its_requests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)

    class Broken(Model):
        def caption(self, images: Sequence[Path], **options: Any) -> list:  # type: ignore[type-arg]
            raise RuntimeError("out of memory")

    room = champions(Broken("v1"), Model("v2"))
    room.serve(1, "v1", Path("v1"))
    room.serve(2, "v2", Path("v2"))
    with pytest.raises(ModelUnavailableError, match="The model v1 failed on a batch of images: out of memory"):
        room.caption("v1", [A, B, A, B, A])
    assert texts(room.caption("v2", [A])) == ["v2 on a.jpg"]


def test_what_reranks_is_handed_on_and_projects_are_not_mixed_in_a_batch() -> None:
    class Reranked(Model):
        def caption(self, images: Sequence[Path], *, retrieval: Any = None) -> list:  # type: ignore[type-arg]
            self.started.set()
            assert gate.wait(20)
            return [Hypothesis(f"{retrieval} of {len(images)}", 0.5) for _ in images]

    gate, one, other = threading.Event(), "one", "other"
    model = Reranked("v1")
    room = champions(model)
    room.serve(DEFAULT, "v1", Path("v1"))
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(room.caption, "v1", [Path("0")])
        assert model.started.wait(20)
        waiting = [pool.submit(room.caption, "v1", [Path("1")], retrieval) for retrieval in (one, other, one)]
        while len(room._waiting) < 3:
            time.sleep(0.001)
        gate.set()
        assert [[found.text for found in each.result(20)] for each in (first, *waiting)] == [  # type: ignore[union-attr]
            ["None of 1"],
            ["one of 2"],
            ["other of 1"],
            ["one of 2"],
        ]


def test_a_model_that_answers_too_little_is_a_failure() -> None:
    class Short(Model):
        def caption(self, images: Sequence[Path], **options: Any) -> list:  # type: ignore[type-arg]
            return super().caption(images)[1:]

    room = champions(Short("v1"))
    room.serve(1, "v1", Path("v1"))
    with pytest.raises(ModelUnavailableError, match="failed on a batch"):
        room.caption("v1", [A, B])
