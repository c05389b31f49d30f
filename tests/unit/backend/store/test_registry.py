from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from backend.domain.errors import RegistryError
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.store import Store


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    return Registry(store)


def version(name: str, project_id: int | None = 1, **fields: object) -> ModelVersion:
    return ModelVersion(name=name, checkpoint=Path("/models") / name, project_id=project_id, **fields)  # type: ignore[arg-type]


def champion(registry: Registry, project_id: int) -> str | None:
    found = registry.champion(project_id)
    return found.name if found else None


@pytest.fixture
def three(registry: Registry) -> Registry:
    """starter by default; p1-v1 and p1-v2 promoted in project 1."""
    registry.register(version("starter", None))
    registry.promote(DEFAULT, "starter", "chosen as default", "operator")
    for name in ("p1-v1", "p1-v2"):
        registry.register(version(name, parent="starter"))
        registry.promote(1, name, reason="better", by="gate")
    return registry


def test_a_version_comes_back_as_it_was_registered(registry: Registry) -> None:
    made = version(
        "p1-v1",
        parent="starter",
        manifest=Path("/snapshots/1-9/manifest.jsonl"),
        snapshot="1-9",
        verdict={"decision": "promote"},
        scores={"bleu4": 31.5},
        state="passed",
    )
    registry.register(made)
    assert registry.get("p1-v1") == made
    assert registry.of_snapshot(1, "1-9") == made
    assert registry.of_snapshot(1, "1-10") is None
    plain = registry.register(version("plain", None))
    assert registry.get("plain") == plain


def test_names_are_unique_and_numbered(registry: Registry) -> None:
    assert registry.next_name(1) == "p1-v1"
    for name in ("p1-v1", "p1-v9", "p1-v10", "p1-very-good", "p11-v40"):
        registry.register(version(name))
    assert (registry.next_name(1), registry.next_name(2)) == ("p1-v11", "p2-v1")
    with pytest.raises(RegistryError, match="There is a version 'p1-v9' already"):
        registry.register(version("p1-v9"))


def test_versions_are_listed_newest_first_by_project(three: Registry) -> None:
    three.register(version("p2-v1", 2))
    assert [each.name for each in three.versions()] == ["p2-v1", "p1-v2", "p1-v1", "starter"]
    assert [each.name for each in three.versions(1)] == ["p1-v2", "p1-v1", "starter"]


def test_a_project_without_a_champion_of_its_own_uses_the_default(three: Registry) -> None:
    assert [champion(three, project_id) for project_id in (1, 2, DEFAULT)] == ["p1-v2", "starter", "starter"]
    assert three.champions() == {DEFAULT: "starter", 1: "p1-v2"}


def test_nothing_serves_where_nothing_was_promoted(registry: Registry) -> None:
    assert (champion(registry, 1), registry.champions()) == (None, {})


def test_rolling_back_step_by_step_to_the_default(three: Registry) -> None:
    assert three.rollback(1) == "p1-v1"
    assert champion(three, 1) == "p1-v1"
    assert three.rollback(1, reason="worse at night", by="ann") == "starter"
    assert champion(three, 1) == "starter"
    assert three.champions() == {DEFAULT: "starter"}
    with pytest.raises(RegistryError, match=r"^Project 1 has no champion of its own to roll back\.$"):
        three.rollback(1)
    moves = [(move.version, move.reason, move.moved_by) for move in three.moves(1)]
    assert moves == [
        (None, "worse at night", "ann"),
        ("p1-v1", "rolled back", "operator"),
        ("p1-v2", "better", "gate"),
        ("p1-v1", "better", "gate"),
    ]


def test_promoting_after_a_rollback_goes_back_to_what_served_then(three: Registry) -> None:
    three.rollback(1)
    three.register(version("p1-v3"))
    three.promote(1, "p1-v3", reason="better", by="gate")
    assert three.rollback(1) == "p1-v1"


def test_rolling_back_the_only_champion_leaves_none(registry: Registry) -> None:
    registry.register(version("own", None))
    registry.promote(DEFAULT, "own", "chosen as default", "operator")
    assert registry.rollback(DEFAULT) is None
    assert champion(registry, 1) is None


def test_promoting_the_champion_again_is_no_move(three: Registry) -> None:
    three.promote(1, "p1-v2", reason="again", by="operator")
    assert len(three.moves(1)) == 2


def test_a_candidate_is_promoted_only_instead_of_what_it_was_compared_with(three: Registry) -> None:
    three.register(version("p1-v3", parent="p1-v1"))
    with pytest.raises(RegistryError, match="was compared with 'p1-v1', but 'p1-v2' has come to serve project 1"):
        three.promote(1, "p1-v3", reason="better", by="gate", instead_of="p1-v1")
    three.promote(1, "p1-v3", reason="better", by="gate", instead_of="p1-v2")
    three.register(version("p2-v1", 2, parent="starter"))
    three.promote(2, "p2-v1", reason="better", by="gate", instead_of="starter")
    assert (champion(three, 1), champion(three, 2)) == ("p1-v3", "p2-v1")


def test_a_first_model_is_promoted_only_where_nothing_serves(registry: Registry) -> None:
    for name in ("p1-v1", "p1-v2", "p2-v1"):
        registry.register(version(name, int(name[1])))
    registry.promote(1, "p1-v2", "by an operator", "operator")
    with pytest.raises(RegistryError, match="was judged as a first model, but 'p1-v2' has come to serve project 1"):
        registry.promote(1, "p1-v1", reason="good enough", by="gate", instead_of=None)
    registry.promote(2, "p2-v1", reason="good enough", by="gate", instead_of=None)
    registry.promote(2, "p2-v1", reason="good enough", by="gate", instead_of=None)  # by the next attempt
    assert (champion(registry, 1), champion(registry, 2)) == ("p1-v2", "p2-v1")


def test_what_is_taken_back_gives_way_to_what_it_was_compared_with(three: Registry) -> None:
    three.register(version("tried", None))
    three.promote(1, "tried", "a trial", "operator")
    three.register(version("p1-v3", parent="p1-v1"))
    three.promote(1, "p1-v3", "better", "operator")
    with pytest.raises(RegistryError, match="'p1-v2' is worse than 'p1-v1', but 'p1-v3' has come to serve project 1"):
        three.take_back(1, "p1-v2", to="p1-v1", reason="worse")
    assert champion(three, 1) == "p1-v3"
    three.take_back(1, "p1-v3", to="p1-v1", reason="worse")
    assert champion(three, 1) == "p1-v1"
    assert (three.moves(1)[0].reason, three.moves(1)[0].moved_by) == ("worse", "gate")
    assert three.rollback(1) == "starter", "what served before p1-v1"
    three.promote(1, "p1-v3", "again", "operator")
    three.take_back(1, "p1-v3", to="p1-v2", reason="worse")
    assert champion(three, 1) == "p1-v2", "although it did not serve before"


def test_what_is_taken_back_to_the_default_goes_on_following_it(three: Registry) -> None:
    three.take_back(1, "p1-v2", to="starter", reason="worse")
    assert champion(three, 1) == "starter"
    assert three.champions() == {DEFAULT: "starter"}


def test_what_may_not_be_promoted(three: Registry) -> None:
    with pytest.raises(RegistryError, match="There is no model version 'p1-v7'; `captioner versions` lists"):
        three.promote(1, "p1-v7", reason="", by="operator")
    with pytest.raises(RegistryError, match="'p1-v1' was trained for project 1 and cannot serve 2"):
        three.promote(2, "p1-v1", reason="", by="operator")


def test_a_rollback_that_was_answered_late_undoes_no_other_move(three: Registry) -> None:
    three.promote(1, "p1-v1", reason="better", by="gate")
    champion, before = three.before(1)
    three.promote(1, "p1-v2", reason="better still", by="gate")
    with pytest.raises(RegistryError, match="'p1-v2' has become the champion of project 1 since"):
        three.rollback(1, of=champion)
    assert (champion, before, three.champions()[1]) == ("p1-v1", "p1-v2", "p1-v2")


def test_files_in_the_data_folder_are_found_where_the_folder_is_now(registry: Registry, tmp_path: Path) -> None:
    made = version("p1-v1", manifest=tmp_path / "snapshots" / "1-9" / "manifest.jsonl")
    registry.register(replace(made, checkpoint=tmp_path / "models" / "p1-v1"))
    registry.register(version("outside"))
    moved = Registry(Store(str(registry.store.url), tmp_path.parent / "elsewhere"))
    found = moved.get("p1-v1")
    assert found.checkpoint == tmp_path.parent / "elsewhere" / "models" / "p1-v1"
    assert found.manifest == tmp_path.parent / "elsewhere" / "snapshots" / "1-9" / "manifest.jsonl"
    assert moved.get("outside").checkpoint == Path("/models/outside")


def test_an_absolute_path_of_an_earlier_release_is_followed_into_a_folder_that_was_moved(
    registry: Registry, tmp_path: Path
) -> None:
    registry.register(ModelVersion("p1-v1", Path("/srv/captioner/data/models/p1-v1")))
    assert registry.get("p1-v1").checkpoint == Path("/srv/captioner/data/models/p1-v1")
    (tmp_path / "models" / "p1-v1").mkdir(parents=True)
    assert registry.get("p1-v1").checkpoint == tmp_path / "models" / "p1-v1"


def test_a_folder_that_was_moved_from_where_its_present_user_may_not_go_is_followed(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = os.stat

    def guarded(path: object, *given: object, **options: object) -> object:
        if str(path).startswith("/root/data/"):
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *given, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "stat", guarded)
    registry.register(ModelVersion("p1-v1", Path("/root/data/models/p1-v1")))
    assert registry.get("p1-v1").checkpoint == Path("/root/data/models/p1-v1")
    (tmp_path / "models" / "p1-v1").mkdir(parents=True)
    assert registry.get("p1-v1").checkpoint == tmp_path / "models" / "p1-v1"
