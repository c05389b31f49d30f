from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.domain.errors import ModelUnavailableError
from backend.serving.champions import DEFAULT, Champions
from tests.fakes import Model
from training.errors import CheckpointError


def champions(*models: Model) -> Champions:
    """Champions whose checkpoint folders are the models' names."""
    by_name = {model.name: model for model in models}

    def load(checkpoint: Path, device: str) -> Model:
        if checkpoint.name not in by_name:
            raise CheckpointError(f"The folder {checkpoint} holds no checkpoint.")
        return by_name[checkpoint.name]

    return Champions("cpu", load)


def test_nothing_serves_before_something_does() -> None:
    room = champions()
    assert room.serving(1) is None
    with room.in_use(1) as version:
        assert version is None


def test_a_project_has_its_own_or_the_default_one() -> None:
    room = champions(Model("own"), Model("default"))
    room.serve(DEFAULT, "default", Path("default"))
    room.serve(7, "own", Path("own"))
    assert (room.serving(7), room.serving(8)) == ("own", "default")
    room.withdraw(7)
    assert room.serving(7) == "default"
    assert room._models.keys() == {"default"}


def test_a_version_serving_another_project_stays() -> None:
    room = champions(Model("v1"), Model("v2"))
    room.serve(1, "v1", Path("v1"))
    room.serve(2, "v1", Path("v1"))
    room.serve(1, "v2", Path("v2"))
    assert room._models.keys() == {"v1", "v2"}


def test_a_request_in_progress_keeps_its_version_over_a_swap() -> None:
    model = Model("v1")
    room = champions(model, Model("v2"))
    room.serve(1, "v1", Path("v1"))
    with room.in_use(1) as version:
        room.serve(1, "v2", Path("v2"))
        assert version == "v1"
        assert room.model("v1") is model
        assert room.serving(1) == "v2"
    assert room._models.keys() == {"v2"}
    with pytest.raises(ModelUnavailableError, match="The model v1 is not loaded"):
        room.model("v1")


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


def test_a_champion_serves_while_it_is_made_faster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serves, made_faster = threading.Event(), threading.Event()
    folders: list[Path] = []

    class Accelerated(Model):
        def accelerate(self, folder: Path) -> None:
            assert serves.wait(10)
            folders.append(folder)
            made_faster.set()

    monkeypatch.setattr("backend.serving.champions._load", lambda checkpoint, device: Accelerated(checkpoint.name))
    room = Champions("cpu", compiled=tmp_path)
    room.serve(1, "v1", Path("v1"))
    assert room.serving(1) == "v1"
    serves.set()
    assert made_faster.wait(10)
    assert folders == [tmp_path]
