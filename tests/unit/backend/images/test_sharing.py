"""Checkpoints and snapshots of two machines that share a database and a store, and no disk."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.domain.errors import UnreachableImageError
from backend.images import remote
from backend.images.archive import ImageStore
from backend.images.sharing import SNAPSHOT, Sharing
from backend.store.registry import NEW, ModelVersion, Registry
from backend.store.store import Store
from backend.web.watcher import Watcher
from tests import factories
from tests.factories import backend, picture, settings
from training.captioner import checkpoint
from training.data import manifest
from training.data.manifest import Row


@dataclass
class Machine:
    data: Path
    sharing: Sharing
    registry: Registry


def machine(folder: Path, name: str, url: str | None = "kept") -> Machine:
    """A machine with a data folder of its own; `url` names the store below the folder."""
    environ = {"CAPTIONER_IMAGES_URL": str(folder / url)} if url else {}
    given = settings(folder / name, DATABASE_URL=f"sqlite:///{folder}/shared.db", **environ)
    store = Store(given.database_url, given.data_dir)
    store.migrate()
    return Machine(given.data_dir, Sharing(given, store), Registry(store))


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def trainer(tmp_path: Path) -> Machine:
    """A machine with the checkpoint p1-v1, which it has shared."""
    made = machine(tmp_path, "trainer")
    folder = factories.checkpoint(made.data / "models" / "p1-v1")
    (folder / "examples").mkdir()
    (folder / "examples" / "0.jpg").write_bytes(b"a picture")
    made.sharing.share(folder)
    made.registry.register(ModelVersion("p1-v1", folder, project_id=1))
    return made


def test_a_machine_without_a_checkpoint_gets_it_whole(tmp_path: Path, trainer: Machine) -> None:
    other = machine(tmp_path, "other")
    folder = other.registry.get("p1-v1").checkpoint
    assert folder == other.data / "models" / "p1-v1"
    other.sharing.fetch(folder)
    assert files(folder) == files(trainer.data / "models" / "p1-v1")
    checkpoint.check_whole(folder)


def test_a_checkpoint_that_nobody_has_uploaded_yet_is_waited_for(tmp_path: Path) -> None:
    owner, other = machine(tmp_path, "owner"), machine(tmp_path, "other")
    folder = factories.checkpoint(owner.data / "models" / "starter-v1")
    owner.registry.register(ModelVersion("starter-v1", folder))
    owner.sharing.fetch_checkpoint(folder)
    lacking = other.registry.get("starter-v1").checkpoint
    with pytest.raises(UnreachableImageError, match=r"^starter-v1 is not on this machine, and not in .*/kept yet: "):
        other.sharing.fetch_checkpoint(lacking)
    owner.sharing.share_versions(owner.registry)
    other.sharing.fetch_checkpoint(lacking)
    checkpoint.check_whole(lacking)


def test_only_what_is_lacking_or_damaged_is_fetched(
    tmp_path: Path, trainer: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trainer.data / "models" / "p1-v1"
    whole, fetched = files(folder), []
    usual = remote.Remote.fetch
    monkeypatch.setattr(remote.Remote, "fetch", lambda self, *of: fetched.append(of[1].name) or usual(self, *of))
    trainer.sharing.fetch(folder)
    assert fetched == []
    (folder / "config.json").write_text("{}")
    (folder / "vocabulary.json").unlink()
    trainer.sharing.fetch(folder, by_content=False)
    assert (len(fetched), (folder / "config.json").read_text()) == (1, "{}"), "files are only counted"
    trainer.sharing.fetch(folder)
    assert (len(fetched), files(folder)) == (2, whole)


def test_what_is_damaged_or_gone_in_the_store_is_one_sentence_and_changes_nothing(
    tmp_path: Path, trainer: Machine
) -> None:
    [kept] = [path for path in (tmp_path / "kept").rglob("*") if path.is_file() and path.read_bytes() == b"[]"]
    other = machine(tmp_path, "other")
    folder = other.data / "models" / "p1-v1"
    kept.write_bytes(b"[1]")
    with pytest.raises(UnreachableImageError, match=r"^p1-v1/vocabulary\.json in .*kept is damaged and not used\.$"):
        other.sharing.fetch(folder)
    kept.unlink()
    with pytest.raises(UnreachableImageError, match=r"^The store .*kept has no p1-v1/vocabulary\.json\.$"):
        other.sharing.fetch(folder)
    assert "vocabulary.json" not in files(folder)
    assert not list(folder.glob(".*")), "nothing unfinished is left"


def test_without_a_store_nothing_is_shared(tmp_path: Path) -> None:
    alone = machine(tmp_path, "alone", url=None)
    folder = factories.checkpoint(alone.data / "models" / "v1")
    alone.sharing.share(folder)
    (folder / "config.json").unlink()
    alone.sharing.fetch(folder)
    assert sorted(files(folder)) == ["model.safetensors", "vocabulary.json"]


def test_versions_from_before_there_was_a_store_are_uploaded_with_their_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = machine(tmp_path, "trainer", url=None)
    content = picture()
    sha256 = hashlib.sha256(content).hexdigest()
    image = before.data / "images" / sha256[:2] / f"{sha256}.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(content)
    rows = [Row(image, sha256, ("a dot",)), Row(image.with_name("gone.png"), "0" * 64, ("gone",))]
    taken = manifest.save(rows, before.data / "snapshots" / "1-5" / "manifest.jsonl")
    manifest.save(rows[:1], taken.with_name(NEW))
    taken.with_name("other.txt").write_text("not ours")
    folder = factories.checkpoint(before.data / "models" / "p1-v1")
    before.registry.register(ModelVersion("p1-v1", folder, project_id=1, manifest=taken))
    elsewhere = factories.checkpoint(tmp_path / "elsewhere")
    manifest.save(rows, elsewhere / "manifest.jsonl")
    before.registry.register(ModelVersion("elsewhere", elsewhere, manifest=elsewhere / "manifest.jsonl"))

    now = machine(tmp_path, "trainer")
    read: list[Path] = []
    usual = manifest.load
    monkeypatch.setattr(manifest, "load", lambda path: read.append(path) or usual(path))
    for _ in range(2):
        now.sharing.share_versions(now.registry)
    assert read == [taken], "once, and what lies outside the data folder never"
    other = machine(tmp_path, "other")
    version = other.registry.get("p1-v1")
    assert version.manifest
    other.sharing.fetch(version.checkpoint)
    other.sharing.fetch(version.manifest.parent)
    assert sorted(files(version.manifest.parent)) == sorted({*SNAPSHOT} - {"snapshot.json"})
    given = settings(other.data, CAPTIONER_IMAGES_URL=str(tmp_path / "kept"))
    restored, lost = ImageStore(given).restored(manifest.load(version.manifest), by_content=False)
    assert ([row.image.is_relative_to(other.data) for row in restored], len(lost)) == ([False, False], 1)
    image.unlink()
    restored, _ = ImageStore(given).restored(manifest.load(version.manifest))
    assert restored[0].image.read_bytes() == content
    assert restored[0].image.is_relative_to(other.data)


def test_while_the_store_is_down_the_old_champion_serves_and_it_is_tried_again(
    tmp_path: Path, trainer: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("backend.web.watcher.RETRY_LOAD_SECONDS", 0)
    services = backend(
        tmp_path / "other", DATABASE_URL=f"sqlite:///{tmp_path}/shared.db", CAPTIONER_IMAGES_URL=str(tmp_path / "kept")
    )
    old = ModelVersion("old", factories.checkpoint(services.settings.data_dir / "models" / "old"))
    services.registry.register(old)
    services.registry.promote(1, "old", reason="for a test", by="test")
    watcher = Watcher(services)
    watcher.load_champions()
    trainer.registry.promote(1, "p1-v1", reason="better", by="gate")
    kept = tmp_path / "kept"
    kept.rename(tmp_path / "away")
    with caplog.at_level(logging.ERROR):
        watcher.load_champions()
    assert services.champions.serving(1) == "old"
    assert "The store" in services.champions.refused()[1]
    assert len(caplog.records) == 1
    (tmp_path / "away").rename(kept)
    watcher.load_champions()
    assert services.champions.serving(1) == "p1-v1"


def test_what_one_machine_takes_out_is_taken_out_of_all(tmp_path: Path, trainer: Machine) -> None:
    taken = manifest.save(
        [Row(tmp_path / "1.png", "1" * 64, ("a secret",))], trainer.data / "snapshots/1-5/manifest.jsonl"
    )
    trainer.sharing.share(taken.parent, SNAPSHOT)
    others = [machine(tmp_path, "other"), machine(tmp_path, "another")]
    for other in others:
        other.sharing.fetch_all()
        assert files(other.data) == files(trainer.data) | {"shared.lock": b""}
    manifest.save([Row(tmp_path / "1.png", "1" * 64, ("a dot",))], taken)
    (trainer.data / "models" / "p1-v1" / "examples" / "0.jpg").unlink()
    trainer.sharing.share_again()
    for content in files(tmp_path / "kept").values():
        assert b"secret" not in content
        assert content != b"a picture"
    for other in others:
        for _ in range(2):
            other.sharing.follow()
        assert files(other.data) == files(trainer.data) | {"shared.lock": b""}


def test_what_a_dead_attempt_has_uploaded_does_not_replace_what_the_next_one_makes(
    tmp_path: Path, trainer: Machine
) -> None:
    folder = trainer.data / "models" / "p1-v1"
    other = machine(tmp_path, "other")
    trainer.sharing.withdraw(folder)
    (folder / "config.json").write_text("{}")
    trainer.sharing.follow()
    trainer.sharing.fetch(folder)
    assert (folder / "config.json").read_text() == "{}"
    other.sharing.fetch(other.data / "models" / "p1-v1")
    assert not (other.data / "models").exists()
    trainer.sharing.share(folder)
    other.sharing.fetch(other.data / "models" / "p1-v1")
    assert files(other.data / "models") == files(trainer.data / "models")
