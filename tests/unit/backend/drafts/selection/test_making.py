"""A selection is made by the jobs that refresh drafts, and survives whatever ends them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.domain.errors import LabelStudioError
from backend.drafts import queueing
from backend.drafts.job import Job
from backend.drafts.refresh import Run
from backend.drafts.selection.making import NOTHING_WAITS, CannotChooseError
from backend.drafts.selection.ordering import order, undo
from backend.store.database import now
from backend.store.drafts.refreshes import DONE, LIVE, STORED, WAITING
from backend.store.drafts.selections import CHOSEN, ENDED, GONE, SHOWN, WANTED, Chosen, Order, Selection
from backend.store.registry import Registry
from backend.store.store import Store
from backend.store.tables import selections
from backend.web.watcher import Watcher
from tests.factories import correction, saved, settings
from tests.unit.backend.drafts import test_refresh
from tests.unit.backend.drafts.test_chunks import Queue
from tests.unit.backend.drafts.test_refresh import draft_all, naps, registry, store, wait  # noqa: F401 - fixtures

TASKS = (5, 2, 4)
"""What is chosen, in this order."""


class KilledError(BaseException):
    pass


class Studio(test_refresh.Studio):
    """A project of six tasks, which may be killed or be away at the request that `fails` names."""

    def __init__(self, tasks: Sequence[int] = range(1, 7)) -> None:
        super().__init__({id_: [] for id_ in tasks})
        self.sampling: str | None = "Sequential sampling"
        self.fails: dict[str, BaseException] = {}

    def project(self, project_id: int) -> dict[str, Any]:
        return {**super().project(project_id), "sampling": self.sampling}

    def update_project(self, project_id: int, model_version: str, **fields: Any) -> None:
        is_selection = ".select-" in model_version
        self._meet("show" if is_selection else "")
        super().update_project(project_id, model_version)
        self.sampling = fields.get("sampling", self.sampling)
        self._meet("shown" if is_selection else "")

    def import_predictions(self, project_id: int, predictions: Sequence[Any]) -> int:
        if any(".select-" in each["model_version"] for each in predictions):
            self._meet("store")
        self.said.append([each["task"] for each in predictions])
        for each in predictions:
            copied = {name: each[name] for name in ("model_version", "result", "score")}
            self.predictions[each["task"]].append({"id": next(self._ids), **copied})
        self.meanwhile()
        return len(predictions)

    def full_tasks(self, project_id: int, task_ids: Sequence[int], unreadable: set[int]) -> list[Any]:
        return [
            {"id": id_, "predictions": self.predictions[id_], "total_annotations": int(id_ in self.labelled)}
            for id_ in task_ids
            if id_ in self.predictions
        ]

    def _meet(self, what: str) -> None:
        if error := self.fails.pop(what, None):
            raise error

    def served(self) -> list[tuple[int, float]]:
        """What Uncertainty sampling serves: tasks with the version that the project names, lowest score first."""
        assert self.sampling == "Uncertainty sampling"
        found = [
            (each["score"], id_)
            for id_, predictions in self.predictions.items()
            for each in predictions
            if each["model_version"] == self.model_version and id_ not in self.labelled
        ]
        return [(id_, score) for score, id_ in sorted(found)]

    def names(self) -> set[str]:
        return set(self.model_versions(1))


def choose(job: Job, selection: Selection) -> list[Chosen]:
    return [Chosen(id_, id_ == 2) for id_ in TASKS][: selection.count]


def work(studio: Studio, store: Store, choose: Any = choose) -> Selection:  # noqa: F811
    """One job; the newest selection after it."""
    names = Registry(store)
    champion = names.champion(1)
    assert champion
    Run(studio, store, names, draft_all, champion, 600000, 1, choose=choose).work()  # type: ignore[arg-type]
    return store.selections(1)[-1]


def ordered(studio: Studio, store: Store, count: int = 3, after_promotions: bool = False) -> Selection:  # noqa: F811
    return order(studio, store, 1, Order("margin", count, 7, after_promotions))  # type: ignore[arg-type]


def later(store: Store) -> None:  # noqa: F811
    """As if the ten minutes were over in which somebody may have a task open."""
    with store.writing(1) as connection:
        connection.execute(selections.update().values(due_at=now() - timedelta(seconds=1)))


def label(studio: Studio, store: Store, task_id: int, **fields: Any) -> None:  # noqa: F811
    studio.labelled.add(task_id)
    store.record(saved(correction(100 + task_id, task_id=task_id, **fields)))


@pytest.fixture
def studio(registry: Registry) -> Studio:  # noqa: F811
    return Studio()


def test_what_is_selected_is_served_first_in_its_order(studio: Studio, store: Store) -> None:  # noqa: F811
    assert ordered(studio, store).state == WANTED
    made = work(studio, store)
    assert (made.state, made.name, made.sampling_before) == (SHOWN, "v3.select-1", "Sequential sampling")
    assert (studio.model_version, studio.sampling) == ("v3.select-1", "Uncertainty sampling")
    assert studio.served() == [(5, 1 / 3), (2, 2 / 3), (4, 1.0)]
    for id_ in range(1, 7):
        own, *copies = studio.predictions[id_]
        assert (own["model_version"], own["score"]) == ("v3", 0.5), "ordinary drafts keep their score"
        assert [each["result"] for each in copies] == ([own["result"]] if id_ in TASKS else [])
    state = store.refresh_state(1)
    assert (state.mode, state.state) == (STORED, WAITING), "a project that shows a selection is in stored mode"
    wait(store)
    work(studio, store)
    assert store.refresh_state(1).state == DONE
    assert studio.served() == [(5, 1 / 3), (2, 2 / 3), (4, 1.0)], "its predictions are not superfluous"


def test_in_stored_mode_no_draft_is_made_for_it(studio: Studio, store: Store) -> None:  # noqa: F811
    store.begin_refresh(1, wanted=STORED)
    work_without(studio, store)
    before = store.refresh_state(1)
    ordered(studio, store, count=2)
    assert store.refresh_state(1).version == "v3", "nothing is listed again"
    assert work(studio, store).state == SHOWN
    assert studio.served() == [(5, 0.5), (2, 1.0)]
    assert store.refresh_state(1).checked == before.checked


def work_without(studio: Studio, store: Store) -> None:  # noqa: F811
    champion = Registry(store).champion(1)
    assert champion
    Run(studio, store, Registry(store), draft_all, champion, 600000, 1).work()  # type: ignore[arg-type]


def test_undone_the_project_is_what_it_was_and_the_copies_go_once_nobody_has_them_open(
    studio: Studio,
    store: Store,  # noqa: F811
) -> None:
    ordered(studio, store)
    work(studio, store)
    undo(studio, store, 1)  # type: ignore[arg-type]
    assert (studio.model_version, studio.sampling) == ("v3", "Sequential sampling")
    assert "v3.select-1" in studio.names(), "somebody may have one open"
    assert not store.selection_is_due(1)
    later(store)
    studio.typed_in, studio.labelled = {4}, {2}
    assert store.selection_is_due(1)
    assert work(studio, store).state == ENDED, "the copy of a task that is being edited stays"
    assert {id_ for id_, held in studio.held().items() if "v3.select-1" in held} == {2, 4}
    assert not store.selection_is_due(1)
    later(store)
    studio.typed_in = set()
    assert work(studio, store).state == GONE
    assert {id_ for id_, held in studio.held().items() if "v3.select-1" in held} == {2}, "what is labelled keeps its"
    with pytest.raises(LabelStudioError, match="Nothing is selected in project 1"):
        undo(studio, store, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["store", "show", "shown"])
def test_a_killed_job_is_continued_by_the_next(studio: Studio, store: Store, where: str) -> None:  # noqa: F811
    ordered(studio, store)
    studio.fails = {where: KilledError()}
    with pytest.raises(KilledError):
        work(studio, store)
    assert store.selections(1)[-1].state == CHOSEN, "SQL knows it before Label Studio"
    store.order_refresh(1)  # the lease of a killed job ends after half a minute

    def never(job: Job, selection: Selection) -> list[Chosen]:
        raise AssertionError("it is chosen")

    assert work(studio, store, never).state == SHOWN
    assert studio.served() == [(5, 1 / 3), (2, 2 / 3), (4, 1.0)]
    assert [held.count("v3.select-1") for held in studio.held().values()] == [0, 1, 0, 1, 1, 0], "none twice"
    assert store.selections(1)[-1].sampling_before == "Sequential sampling"


def test_what_is_labelled_or_gone_meanwhile_is_not_selected(studio: Studio, store: Store) -> None:  # noqa: F811
    ordered(studio, store)

    def late(job: Job, selection: Selection) -> list[Chosen]:
        studio.labelled.add(2)
        del studio.predictions[4]
        return choose(job, selection)

    made = work(studio, store, late)
    assert studio.served() == [(5, 1 / 3)]
    assert store.selection_progress(made).tasks == 1


def test_after_a_promotion_the_new_drafts_are_shown_in_the_old_order(
    studio: Studio,
    store: Store,  # noqa: F811
    registry: Registry,  # noqa: F811
) -> None:
    ordered(studio, store)
    work(studio, store)
    registry.promote(1, "v1", reason="for a test", by="test")
    assert work(studio, store).state == ENDED
    assert (studio.model_version, studio.sampling) == ("v1", "Sequential sampling")
    assert studio.said[-2:] == [[1, 2, 3, 4, 5, 6], "v1"], "when all drafts are stored"
    later(store)
    wait(store)
    work(studio, store)
    assert studio.names() == {"v1"}


def test_after_a_promotion_it_is_selected_anew_where_a_person_asked_for_it(
    studio: Studio,
    store: Store,  # noqa: F811
    registry: Registry,  # noqa: F811
) -> None:
    ordered(studio, store, after_promotions=True)
    work(studio, store)
    registry.promote(1, "v1", reason="for a test", by="test")
    studio.said = []
    made = work(studio, store)
    assert (made.number, made.state, made.version, made.strategy, made.count) == (2, SHOWN, "v1", "margin", 3)
    assert studio.said == [[1, 2, 3, 4, 5, 6], [5, 2, 4], "v1.select-2"], "from one selection to the next"
    assert [each.state for each in store.selections(1)] == [ENDED, SHOWN]
    assert made.sampling_before == "Sequential sampling"
    undo(studio, store, 1)  # type: ignore[arg-type]
    assert (studio.model_version, studio.sampling) == ("v1", "Sequential sampling")
    registry.promote(1, "v2", reason="for a test", by="test")
    assert work(studio, store).number == 2, "undone is undone"
    assert studio.model_version == "v2"


def test_what_is_labelled_when_a_version_is_promoted_is_followed_by_another_selection(
    studio: Studio,
    store: Store,  # noqa: F811
    registry: Registry,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordered(studio, store, after_promotions=True)
    work(studio, store)
    for id_ in TASKS:
        label(studio, store, id_)
    follow(studio, store, tmp_path, monkeypatch)
    assert (studio.model_version, store.selections(1)[-1].state) == ("v3", ENDED)
    registry.promote(1, "v1", reason="for a test", by="test")
    made = work(studio, store, lambda job, selection: [Chosen(1, False)])
    assert (made.number, made.state, studio.model_version) == (2, SHOWN, "v1.select-2")


def follow(studio: Studio, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """As the watcher of a web process does every second."""
    monkeypatch.setattr("backend.drafts.selection.shown.LabelStudio", lambda url, key: studio)
    given = settings(tmp_path, LABEL_STUDIO_URL="http://x.example", LABEL_STUDIO_API_KEY="k")
    store.save_project(1, "<View/>")
    Watcher(SimpleNamespace(settings=given, store=store)).end_selections()  # type: ignore[arg-type]


def test_it_ends_while_those_who_are_at_it_have_the_last_tasks_open(
    studio: Studio,
    store: Store,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else Label Studio would tell one that there are no more tasks, or open one without its draft."""
    ordered(studio, store)
    work(studio, store)
    follow(studio, store, tmp_path, monkeypatch)
    assert studio.model_version == "v3.select-1"
    label(studio, store, 5, annotator=1)
    follow(studio, store, tmp_path, monkeypatch)
    assert studio.model_version == "v3.select-1", "two wait, and one is at it"
    label(studio, store, 2, annotator=1, was_cancelled=True)
    follow(studio, store, tmp_path, monkeypatch)
    assert (studio.model_version, studio.sampling) == ("v3", "Sequential sampling")
    assert store.selections(1)[-1].state == ENDED


def test_another_selection_takes_the_place_of_one_that_is_shown(studio: Studio, store: Store) -> None:  # noqa: F811
    ordered(studio, store)
    work(studio, store)
    ordered(studio, store, count=1)
    assert studio.model_version == "v3.select-1", "until the other one is stored"
    made = work(studio, store)
    assert (studio.model_version, studio.served()) == ("v3.select-2", [(5, 1.0)])
    assert [each.state for each in store.selections(1)] == [ENDED, SHOWN]
    assert made.sampling_before == "Sequential sampling"
    ordered(studio, store)
    ordered(studio, store, count=2)
    assert [each.state for each in store.selections(1)] == [ENDED, SHOWN, GONE, WANTED], "the last order counts"


def test_what_is_switched_in_label_studio_itself_stays(studio: Studio, store: Store) -> None:  # noqa: F811
    ordered(studio, store)
    work(studio, store)
    studio.model_version = "v3"
    wait(store)
    assert work(studio, store).state == ENDED
    assert (studio.model_version, studio.sampling) == ("v3", "Uncertainty sampling")
    ordered(studio, store)
    studio.model_version = "captioner"
    store.order_refresh(1, wanted=None)
    assert work(studio, store).state == GONE, "nothing is selected in live mode"
    assert store.refresh_state(1).mode == LIVE


def test_a_job_that_comes_late_to_the_end_leaves_what_another_has_shown(
    studio: Studio,
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordered(studio, store)
    claim, claims = store.claim_refresh, list[int]()

    def claim_after_another(project_id: int) -> Any:
        claims.append(project_id)
        if len(claims) == 2:  # the first one is for the list of tasks
            assert work(studio, store).state == SHOWN
        return claim(project_id)

    monkeypatch.setattr(store, "claim_refresh", claim_after_another)
    assert work(studio, store).state == SHOWN
    assert len(claims) > 2
    assert studio.served() == [(5, 1 / 3), (2, 2 / 3), (4, 1.0)]


def test_undone_while_a_job_stores_it_nothing_is_shown(studio: Studio, store: Store) -> None:  # noqa: F811
    store.begin_refresh(1, wanted=STORED)
    work_without(studio, store)
    ordered(studio, store)
    studio.meanwhile = lambda: undo(studio, store, 1)  # type: ignore[arg-type]
    assert work(studio, store).state == ENDED
    studio.meanwhile = lambda: None
    assert (studio.model_version, studio.sampling) == ("v3", "Sequential sampling")
    later(store)
    assert work(studio, store).state == GONE
    assert studio.names() == {"v3"}


@pytest.mark.parametrize("reason", [NOTHING_WAITS, "The strategy needs what nobody knows."])
def test_where_nothing_can_be_selected_it_ends_with_a_reason(studio: Studio, store: Store, reason: str) -> None:  # noqa: F811
    def nothing(job: Job, selection: Selection) -> list[Chosen]:
        if reason != NOTHING_WAITS:
            raise CannotChooseError(reason)
        return []

    ordered(studio, store)
    made = work(studio, store, nothing)
    assert (made.reason, made.state in {ENDED, GONE}) == (reason, True)
    assert (studio.model_version, studio.sampling) == ("v3", "Sequential sampling")


def test_a_version_for_which_none_can_be_made_ends_no_wish_for_one_after_promotions(
    studio: Studio,
    store: Store,  # noqa: F811
    registry: Registry,  # noqa: F811
) -> None:
    def nothing(job: Job, selection: Selection) -> list[Chosen]:
        raise CannotChooseError("The strategy needs what nobody knows.")

    ordered(studio, store, after_promotions=True)
    assert work(studio, store, nothing).state == GONE
    assert work(studio, store, nothing).number == 1, "it is tried once a version"
    registry.promote(1, "v1", reason="for a test", by="test")
    made = work(studio, store)
    assert (made.number, made.state, made.version) == (2, SHOWN, "v1")


def test_while_label_studio_is_away_it_is_tried_again_in_a_minute(studio: Studio, store: Store) -> None:  # noqa: F811
    ordered(studio, store)
    studio.fails = {"store": LabelStudioError("Label Studio cannot be reached.")}
    assert work(studio, store).state == CHOSEN
    assert store.refresh_state(1).failure == "Label Studio cannot be reached."
    assert not store.selection_is_due(1)
    later(store)
    assert store.selection_is_due(1)
    assert work(studio, store).state == SHOWN


def test_a_job_is_queued_where_one_is_ordered(
    studio: Studio,
    store: Store,  # noqa: F811
    tmp_path: Path,
) -> None:
    given = settings(tmp_path, LABEL_STUDIO_URL="http://x.example", LABEL_STUDIO_API_KEY="k")

    def queued() -> int:
        queue = Queue(1)
        queueing.queue_refreshes(given, store, queue, 1)  # type: ignore[arg-type]
        return len(queue.jobs)

    store.begin_refresh(1, wanted=STORED)
    work_without(studio, store)
    assert queued() == 0
    ordered(studio, store)
    assert queued() == 1
    store.stop_refresh(1)
    assert queued() == 0, "a person has said stop"
    store.resume_refresh(1)
    work(studio, store)
    assert queued() == 0
    undo(studio, store, 1)  # type: ignore[arg-type]
    assert queued() == 0
    later(store)
    assert queued() == 1
