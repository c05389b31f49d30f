from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backend.domain.errors import CaptionerError
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.store import Store
from backend.up import first_model
from backend.up.first_model import STARTER, adopt, promote, promote_bundled
from training.captioner import bundled
from training.errors import TrainingError
from training.runtime.processes import end_with_parent


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return Registry(store)


def served(registry: Registry, *names: str) -> Registry:
    for name in names:
        registry.register(ModelVersion(name, Path("/models") / name))
    return registry


def test_a_checkpoint_that_does_not_caption_is_neither_registered_nor_kept(registry: Registry, tmp_path: Path) -> None:
    broken = tmp_path / "mine"
    broken.mkdir()
    for name in ("config.json", "vocabulary.json", "model.safetensors"):
        (broken / name).write_text(json.dumps({"format": 1}))
    with pytest.raises(CaptionerError, match=rf"^The checkpoint {broken} fails to caption: The checkpoint {broken} "):
        adopt(registry, broken, tmp_path / "data")
    assert registry.versions() == []
    assert list((tmp_path / "data" / "models").iterdir()) == []


def test_a_checkpoint_is_tried_once_and_known_by_all_its_files(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []
    monkeypatch.setattr(first_model, "_try", lambda folder, checkpoint: tried.append(folder))
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("config.json", "vocabulary.json", "model.safetensors"):
        (mine / name).write_text("{}")
    first = adopt(registry, mine, tmp_path / "data")
    assert adopt(registry, mine, tmp_path / "data") == first
    assert len(tried) == 1
    (mine / "vocabulary.json").write_text('{"words": []}')
    assert adopt(registry, mine, tmp_path / "data") != first
    assert len(tried) == 2


def test_the_starter_is_tried_only_where_its_checksums_do_not_vouch_for_it(
    registry: Registry, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []
    monkeypatch.setattr(first_model, "_try", lambda folder, checkpoint: tried.append(checkpoint))
    adopt(registry, installed, tmp_path / "before")
    assert tried == [installed]
    digest = hashlib.sha256((installed / "model.safetensors").read_bytes()).hexdigest()
    (installed / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n")
    adopt(registry, installed, tmp_path / "data")
    assert tried == [installed]
    (installed / "model.safetensors").write_text("damaged")
    with pytest.raises(TrainingError, match="is damaged: SHA256SUMS lists another model"):
        adopt(registry, installed, tmp_path / "damaged")
    assert not (tmp_path / "damaged").exists()


def test_a_folder_that_is_no_checkpoint_is_one_sentence(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(CaptionerError, match=r"is not a checkpoint: .*`captioner train` makes one\.$"):
        adopt(registry, tmp_path, tmp_path / "data")


def test_a_checkpoint_given_again_does_not_take_the_place_of_what_was_learnt_from_it(registry: Registry) -> None:
    served(registry, "mine", "p1-v1")
    promote(registry, 1, "mine")
    registry.promote(1, "p1-v1", reason="better", by="gate")
    promote(registry, 1, "mine")
    assert registry.champions()[1] == "p1-v1"


def test_another_checkpoint_is_promoted_though_it_has_served_before(registry: Registry) -> None:
    served(registry, "mine", "other")
    for given in ("mine", "other", "mine"):
        promote(registry, 1, given)
        assert registry.champions()[1] == given


def test_the_starter_is_trained_on_the_device_that_was_asked_for(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def run(argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append((argv, options["preexec_fn"]))
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert first_model.starter(registry, tmp_path, "cuda:1") == STARTER
    [(argv, preexec)] = asked
    assert argv[argv.index("--device") + 1] == "cuda:1"
    assert preexec is end_with_parent, "it ends with an `up` that is killed"


def test_the_starter_takes_nobodys_place(registry: Registry) -> None:
    served(registry, STARTER, "mine")
    promote(registry, 1, STARTER)
    assert registry.champions()[1] == STARTER
    registry.promote(1, "mine", reason="mine", by="operator")
    promote(registry, 1, STARTER)
    promote(registry, 2, "mine")
    promote(registry, 2, STARTER)
    assert registry.champions() == {1: "mine", 2: "mine"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of the starter that comes with the project."""
    folder = tmp_path / "installed" / "starter"
    folder.mkdir(parents=True)
    for name in ("config.json", "vocabulary.json", "model.safetensors", "MODEL_CARD.md"):
        (folder / name).write_text("{}")
    monkeypatch.setattr(bundled, "STARTER", folder)
    monkeypatch.setattr(first_model, "_try", lambda *_: None)
    return folder


def test_a_new_project_is_given_a_copy_of_the_starter_of_photos(
    registry: Registry, installed: Path, tmp_path: Path
) -> None:
    version = promote_bundled(registry, 1, tmp_path / "data")
    assert version is not None
    assert version.startswith("starter-")
    assert (registry.champions(), promote_bundled(registry, 2, tmp_path / "data")) == ({1: version}, version)
    (installed / "model.safetensors").unlink()  # as by a newer release
    copy = registry.get(version).checkpoint
    assert copy.parent == tmp_path / "data" / "models"
    assert {path.name for path in copy.iterdir()} >= {"model.safetensors", "MODEL_CARD.md"}
    assert registry.get(version).project_id is None


def test_the_starter_of_photos_takes_nobodys_place(registry: Registry, installed: Path, tmp_path: Path) -> None:
    served(registry, "mine", "usual")
    registry.promote(1, "mine", reason="mine", by="operator")
    promote_bundled(registry, 2, tmp_path)
    registry.rollback(2)
    for project in (1, 2):
        assert promote_bundled(registry, project, tmp_path) is None
    assert registry.champions() == {1: "mine"}, "who took it back from a project is not given it again"
    registry.promote(DEFAULT, "usual", reason="for all", by="operator")
    assert promote_bundled(registry, 3, tmp_path) is None


@pytest.mark.usefixtures("installed")
def test_the_starter_of_photos_leaves_what_is_promoted_while_it_is_copied(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(registry, "mine", "usual")
    monkeypatch.setattr(first_model, "_try", lambda *_: registry.promote(1, "mine", reason="mine", by="operator"))
    assert promote_bundled(registry, 1, tmp_path) is None
    assert registry.champions() == {1: "mine"}


def test_a_starter_that_is_not_installed_is_one_sentence(
    registry: Registry, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "STARTER", installed / "absent")
    with pytest.raises(TrainingError, match=r"^The starter, .*, is missing in .*: install the project again, or "):
        promote_bundled(registry, 1, tmp_path)
    assert registry.champions() == {}
