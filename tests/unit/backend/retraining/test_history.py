"""What of a snapshot is new to a champion, what it knows, what is kept from it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from backend.domain.errors import RegistryError
from backend.images.archive import ImageStore
from backend.retraining.history import History, quarantined_rows
from backend.store.registry import DROPPED, NEW, REJECTED, RELEASED, ModelVersion, Registry
from backend.store.store import Store
from tests.factories import picture, settings
from training.continual.interpolation import FEWEST_ROWS
from training.data import manifest
from training.data.manifest import BLIND, DEV, HELD_OUT, TRAIN, Row
from training.errors import TrainingError


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    store = Store(f"sqlite:///{tmp_path / 'captioner.db'}")
    store.migrate()
    return Registry(store)


def row(number: int, split: str = TRAIN, caption: str | None = None, more: tuple[str, ...] = ()) -> Row:
    return Row(Path(f"/{number}.png"), f"{number:064x}", (caption or f"picture {number}", *more), split)


def version(registry: Registry, folder: Path, name: str, rows: list[Row], **fields: object) -> ModelVersion:
    path = manifest.save(rows, folder / name / "manifest.jsonl")
    return registry.register(ModelVersion(name, folder, manifest=path, **fields))  # type: ignore[arg-type]


@pytest.fixture
def champion(registry: Registry, tmp_path: Path) -> ModelVersion:
    version(registry, tmp_path, "starter", [row(n) for n in range(100, 120)] + [row(200, DEV)])
    first = [row(1), row(2), row(3, HELD_OUT), row(4, BLIND), row(5, DEV)]
    return version(registry, tmp_path, "p1-v1", first, project_id=1, parent="starter")


def numbers(rows: object) -> set[int]:
    return {int(each.sha256, 16) for each in rows}  # type: ignore[attr-defined]


def test_new_is_what_no_ancestor_has_learnt_in_these_words(registry: Registry, champion: ModelVersion) -> None:
    history = History(registry, 1, champion, 0.0)
    data = history.retraining_data([row(1), row(2, caption="reworded"), row(5, DEV), row(6), row(100)])
    assert numbers(data.new) == {2, 6, 100}
    assert numbers(data.known) == {1, 5}
    assert not data.choosing
    assert 100 not in numbers(data.base), "the project has captions of its own for it"
    assert numbers(data.base) < set(range(101, 120))
    assert numbers(history.base_judging()) | numbers(data.base_choosing) == {200}


def test_rows_choose_where_there_are_enough_of_them(registry: Registry, tmp_path: Path) -> None:
    base = [row(number, DEV) for number in range(200, 240)]
    champion = version(registry, tmp_path, "starter", [row(100), *base])
    history = History(registry, 1, champion, 0.0)
    few, enough = (
        history.retraining_data([row(1), *(row(n, DEV) for n in range(2, 2 + each))])
        for each in (FEWEST_ROWS - 1, FEWEST_ROWS)
    )
    assert (numbers(few.new), numbers(few.choosing)) == (set(range(1, FEWEST_ROWS + 1)), set())
    assert (numbers(enough.new), numbers(enough.choosing)) == ({1}, set(range(2, FEWEST_ROWS + 2)))
    judging, choosing = numbers(history.base_judging()), numbers(enough.base_choosing)
    assert judging | choosing == set(range(200, 240))
    assert not judging & choosing
    assert 10 < len(judging) < 30


def test_what_has_judged_is_never_learnt(registry: Registry, champion: ModelVersion) -> None:
    data = History(registry, 1, champion, 0.0).retraining_data([row(3), row(4), row(6)])  # as after a change of shares
    assert numbers(data.new) == {6}


def test_what_was_learnt_never_judges(registry: Registry, champion: ModelVersion) -> None:
    rows = [row(1, BLIND), row(2, HELD_OUT), row(3, HELD_OUT), row(4, BLIND), row(5), row(6, BLIND)]
    assert numbers(History(registry, 1, champion, 0.0).fair(rows)) == {3, 4, 5, 6}


def test_base_images_that_would_judge_are_not_rehearsed(registry: Registry, champion: ModelVersion) -> None:
    assert not History(registry, 1, champion, 1.0).retraining_data([row(1)]).base
    seen = [row(n) for n in range(100, 120)]
    registry.store.place(1, [each.sha256 for each in seen], 1.0)
    assert not History(registry, 1, champion, 0.0).retraining_data([row(1)]).base, "although the share is lower now"


def test_what_may_be_learnt_no_longer_is_to_be_forgotten(registry: Registry, champion: ModelVersion) -> None:
    history = History(registry, 1, champion, 0.0)
    data = history.retraining_data([row(1), row(2, DEV), row(3), row(6)])  # 4 and 5 are gone, 3 has judged
    judges = set(range(100, 120)) - numbers(data.base)  # of the base, were they the project's
    assert {int(each, 16) for each in data.forgotten} == {3, 4, 5, 200} | judges
    assert {int(each, 16) for each in history.retraining_data([row(1)]).forgotten} == {2, 3, 4, 5, 200} | judges


def test_with_nothing_new_all_is_gone_through_again(registry: Registry, champion: ModelVersion) -> None:
    data = History(registry, 1, champion, 0.0).retraining_data([row(1), row(2)])
    assert (numbers(data.new), numbers(data.known)) == ({1, 2}, set())


def test_a_first_model_learns_all(registry: Registry) -> None:
    data = History(registry, 1, None, 0.05).retraining_data([row(1), row(2, DEV)])
    assert (numbers(data.new), numbers(data.choosing), numbers(data.base)) == ({1, 2}, set(), set())


def test_what_a_rejected_version_learnt_is_quarantined_until_it_is_released(
    registry: Registry, champion: ModelVersion, tmp_path: Path
) -> None:
    bad = version(registry, tmp_path, "p1-v2", [row(1), row(6), row(7)], project_id=1, parent="p1-v1", state=REJECTED)
    assert bad.manifest
    manifest.save([row(6), row(7)], bad.manifest.with_name(NEW))
    assert numbers(quarantined_rows(bad)) == {6, 7}
    later = [row(1), row(6), row(7, caption="mended since"), row(8)]
    assert numbers(History(registry, 1, champion, 0.0).retraining_data(later).new) == {7, 8}
    with pytest.raises(TrainingError, match="quarantined"):
        History(registry, 1, champion, 0.0).retraining_data([row(6)])
    registry.decide("p1-v2", RELEASED)
    assert numbers(History(registry, 1, champion, 0.0).retraining_data(later).new) == {6, 7, 8}
    registry.decide("p1-v2", DROPPED)
    assert numbers(History(registry, 1, champion, 0.0).retraining_data(later).new) == {7, 8}
    with pytest.raises(RegistryError, match="was not rejected"):
        registry.decide("p1-v1", RELEASED)


def test_a_quarantined_caption_stays_out_when_its_image_gets_another(
    registry: Registry, champion: ModelVersion, tmp_path: Path
) -> None:
    bad = version(registry, tmp_path, "p1-v2", [row(1), row(6)], project_id=1, parent="p1-v1", state=REJECTED)
    assert bad.manifest
    manifest.save([row(1, caption="wrong"), row(6)], bad.manifest.with_name(NEW))
    later = [row(1, more=("wrong",)), row(6, caption="good", more=("picture 6",)), row(2, more=("another",))]
    history = History(registry, 1, champion, 0.0)
    trusted = [row(1), row(6, caption="good"), row(2, more=("another",))]
    assert history.trusted(later) == trusted
    data = history.retraining_data(later)
    assert (data.new, data.known) == (trusted[1:], trusted[:1])
    assert history.not_learnt(data.new) == [row(6, caption="good"), row(2, caption="another")]
    registry.decide("p1-v2", RELEASED)
    data = history.retraining_data(later)
    assert (data.new, data.known) == (later, [])
    assert history.not_learnt(data.new) == [row(1, caption="wrong"), later[1], row(2, caption="another")]


def test_what_was_quarantined_in_a_snapshot_is_not_learnt_by_its_version(
    registry: Registry, champion: ModelVersion, tmp_path: Path
) -> None:
    good = version(registry, tmp_path, "p1-v3", [row(1), row(6), row(7)], project_id=1, parent="p1-v1")
    assert good.manifest
    manifest.save([row(7)], good.manifest.with_name(NEW))  # 6 was quarantined then
    data = History(registry, 1, good, 0.0).retraining_data([row(1), row(6), row(7)])
    assert (numbers(data.new), numbers(data.known)) == ({6}, {1, 7})


def test_an_image_whose_deleted_caption_was_learnt_is_to_be_forgotten(registry: Registry, tmp_path: Path) -> None:
    """It is indexed again when it is replayed, with the captions that are left."""
    first = [row(1, more=("one of two",)), row(2, more=("another",))]
    champion = version(registry, tmp_path, "p1-v1", first, project_id=1)
    data = History(registry, 1, champion, 0.0).retraining_data([row(1), *first[1:], row(3)])
    assert (numbers(data.new), numbers(data.known)) == ({3}, {1, 2})
    assert {int(each, 16) for each in data.forgotten} == {1}


def test_an_image_whose_new_caption_has_been_learnt_stays_indexed(registry: Registry, tmp_path: Path) -> None:
    first = version(registry, tmp_path, "p1-v1", [row(1), row(2)], project_id=1)
    reworded = [row(1, caption="reworded"), row(2)]
    assert {int(each, 16) for each in History(registry, 1, first, 0.0).retraining_data(reworded).forgotten} == {1}
    champion = version(registry, tmp_path, "p1-v2", reworded, project_id=1, parent="p1-v1")
    manifest.save(reworded[:1], tmp_path / "p1-v2" / NEW)
    assert not History(registry, 1, champion, 0.0).retraining_data([*reworded, row(3)]).forgotten


def test_what_a_champion_learnt_before_it_was_quarantined_is_to_be_forgotten(
    registry: Registry, champion: ModelVersion, tmp_path: Path
) -> None:
    both = row(6, more=("wrong",))
    rejected = version(registry, tmp_path, "p1-v2", [row(1), both], project_id=1, parent="p1-v1", state=REJECTED)
    assert rejected.manifest
    manifest.save([row(6, caption="wrong")], rejected.manifest.with_name(NEW))
    data = History(registry, 1, rejected, 0.0).retraining_data([row(1), both])  # as an operator's champion
    assert both.sha256 in data.forgotten
    assert row(1).sha256 not in data.forgotten


def test_a_rejected_retrain_with_nothing_new_quarantines_nothing(
    registry: Registry, champion: ModelVersion, tmp_path: Path
) -> None:
    history = History(registry, 1, champion, 0.0)
    data = history.retraining_data([row(1), row(2)])
    again = version(registry, tmp_path, "p1-v2", [row(1), row(2)], project_id=1, parent="p1-v1", state=REJECTED)
    assert again.manifest
    manifest.save(history.not_learnt(data.new), again.manifest.with_name(NEW))
    assert quarantined_rows(again) == []
    assert numbers(history.retraining_data([row(1), row(2)]).new) == {1, 2}


def test_a_held_version_leaves_its_corrections_for_the_next(
    registry: Registry, champion: ModelVersion, tmp_path: Path
) -> None:
    held = version(registry, tmp_path, "p1-v2", [row(1), row(6)], project_id=1, parent="p1-v1", state="held")
    assert held.manifest
    manifest.save([row(6)], held.manifest.with_name(NEW))
    assert numbers(History(registry, 1, champion, 0.0).retraining_data([row(1), row(6)]).new) == {6}


def test_never_tried_is_what_no_candidate_has_learnt_and_no_operator_released(
    registry: Registry, champion: ModelVersion, tmp_path: Path
) -> None:
    for number, (name, state) in enumerate({"p1-v2": "held", "p1-v3": REJECTED, "p1-v4": "passed"}.items(), start=6):
        tried = version(registry, tmp_path, name, [row(number)], project_id=1, parent="p1-v1", state=state)
        assert tried.manifest
        manifest.save([row(number)], tried.manifest.with_name(NEW))
    history = History(registry, 1, champion, 0.0)
    assert numbers(history.never_tried([row(n) for n in range(6, 10)])) == {7, 9}
    registry.decide("p1-v3", RELEASED)
    assert numbers(history.never_tried([row(n) for n in range(6, 10)])) == {9}
    assert history.never_tried([row(6, more=("another",))]) == [row(6, caption="another")]


def test_a_lost_manifest_costs_the_rehearsal_and_no_more(registry: Registry, champion: ModelVersion) -> None:
    assert champion.manifest
    champion.manifest.unlink()
    data = History(registry, 1, replace(champion), 0.0).retraining_data([row(1)])
    assert numbers(data.new) == {1}


def test_images_of_the_base_come_back_as_far_as_the_store_has_them(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contents = {hashlib.sha256(content).hexdigest(): content for content in (picture("red"), picture("blue"))}
    rows = [Row(tmp_path / "gone" / f"{sha256}.png", sha256, ("a picture",)) for sha256 in contents]
    kept = tmp_path / "kept" / rows[0].sha256[:2] / f"{rows[0].sha256}.png"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(contents[rows[0].sha256])
    champion = version(registry, tmp_path, "starter", rows)
    images = ImageStore(settings(tmp_path / "data", CAPTIONER_IMAGES_URL=str(tmp_path / "kept")))
    history = History(registry, 1, champion, 0.0, images)
    base = {each.sha256: each.image for each in history.retraining_data([row(1)]).base}
    assert base[rows[0].sha256].read_bytes() == kept.read_bytes()
    assert base[rows[1].sha256] == rows[1].image, "the training says that it is left out"
    assert f"1 of 2 images of the base are gone, the first: {rows[1].image}." in caplog.text
