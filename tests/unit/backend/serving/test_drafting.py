from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from backend.domain.corrections import Draft, DraftFailure, Task
from backend.domain.splits import is_blind
from backend.images.cache import LocalImage
from backend.serving.drafting import NO_MODEL
from backend.store.store import Project
from backend.web.services import Services
from tests import factories
from tests.factories import picture, served, task
from tests.fakes import Answer, Host, Model, host


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        running.answers |= {
            f"/data/upload/1/{number}.png": Answer(200, picture((number, 0, 0))) for number in range(1, 101)
        }
        yield running


@pytest.fixture
def services(tmp_path: Path, studio: Host) -> Services:
    return factories.backend(tmp_path, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY="a" * 40)


def numbered(*numbers: int) -> list[Task]:
    return [task(id=number, image=f"/data/upload/1/{number}.png") for number in numbers]


def model(services: Services, version: str) -> Model:
    found = services.champions._models[version]
    assert isinstance(found, Model)
    return found


def test_drafts_are_aligned_recorded_and_say_their_version(services: Services) -> None:
    version = served(services, "v1")
    drafted = services.drafting.draft(1, numbered(3, 1, 2), version)
    assert [d.task_id for d in drafted] == [3, 1, 2]
    assert all(isinstance(d, Draft) and d.version == "v1" and d.text.startswith("v1 on ") for d in drafted)
    assert sorted(services.store.get_drafts(1, [1, 2, 3], "v1"), key=lambda d: d.task_id) == sorted(
        drafted, key=lambda d: d.task_id
    )


def test_the_same_task_gets_the_same_draft_without_captioning_again(services: Services, studio: Host) -> None:
    version = served(services, "v1")
    first = services.drafting.draft(1, numbered(1, 2), version)
    again = services.drafting.draft(1, numbered(2, 1, 3), version)
    assert again[:2] == first[::-1]
    assert sum(len(batch) for batch in model(services, "v1").batches) == 3
    assert len(studio.asked) == 3


def test_a_large_request_holds_a_bounded_number_of_images_at_a_time(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.serving.answers.WINDOW", 10)
    monkeypatch.setattr("backend.serving.answers.CHUNK", 4)
    stored, begun, most = 0, 0, 0
    local, record = services.images.local, services.drafting._record

    def counted(reference: str, task: Task, project: Project | None = None) -> LocalImage:
        nonlocal begun, most
        begun += 1
        most = max(most, begun - stored)
        return local(reference, task, project)

    def recorded(project_id: int, found: dict[object, Draft | DraftFailure]) -> None:
        nonlocal stored
        record(project_id, found)  # type: ignore[arg-type]
        stored += len(found)

    monkeypatch.setattr(services.images, "local", counted)
    monkeypatch.setattr(services.drafting, "_record", recorded)
    assert len(services.drafting.draft(1, numbered(*range(1, 101)), served(services, "v1"))) == 100
    assert stored == begun == 100
    assert most <= 10 + 4


def test_the_same_picture_costs_no_encoding_in_another_task_or_project(services: Services, studio: Host) -> None:
    studio.answers["/data/upload/1/copy.png"] = studio.answers["/data/upload/1/1.png"]
    for project_id in (1, 2):
        served(services, "v1", project_id)
    drafted = [
        services.drafting.draft(
            project_id, [task(7 * project_id + place, project_id, f"/data/upload/1/{name}.png")], "v1"
        )
        for project_id in (1, 2)
        for place, name in enumerate(("1", "copy"))
    ]
    assert len({draft.text for [draft] in drafted if isinstance(draft, Draft)}) == 1
    assert [(draft.project_id, draft.task_id) for [draft] in drafted] == [(1, 7), (1, 8), (2, 14), (2, 15)]
    assert [len(batch) for batch in model(services, "v1").batches] == [1]


def test_another_version_or_another_image_is_drafted_anew(services: Services) -> None:
    services.drafting.draft(1, numbered(1), served(services, "v1"))
    (other,) = services.drafting.draft(1, [task(id=1, image="/data/upload/1/2.png")], "v1")
    assert isinstance(other, Draft)
    assert other.image == "/data/upload/1/2.png"
    (newer,) = services.drafting.draft(1, numbered(1), served(services, "v2"))
    assert newer.version == "v2"  # type: ignore[union-attr]


def test_two_requests_at_once_agree(services: Services) -> None:
    """Label Studio's first page load asks twice at the same moment; a model that never says the same twice shows it."""
    turns = iter(range(100))
    both = threading.Barrier(2)

    class Fickle(Model):
        def caption_pixels(self, images, **options):  # type: ignore[no-untyped-def]
            return [type(found)(f"{found.text} {next(turns)}", 0.5) for found in super().caption_pixels(images)]

    fickle = Fickle("v1")
    services.champions._load = lambda checkpoint, device: fickle
    version = served(services, "v1")

    def ask(_: int) -> list[Draft | DraftFailure]:
        both.wait(10)
        return services.drafting.draft(1, numbered(1, 2), version)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert first == second


def test_blind_tasks_get_a_version_and_a_score_but_no_text(tmp_path: Path, studio: Host) -> None:
    environ = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": "a" * 40, "CAPTIONER_BLIND_SHARE": "0.3"}
    services = factories.backend(tmp_path, **environ)
    tasks = numbered(*range(1, 61))
    drafted = services.drafting.draft(1, tasks, served(services, "v1"))
    assert all(isinstance(d, Draft) and d.version == "v1" and d.score > 0 for d in drafted)
    blind = {d.task_id for d in drafted if isinstance(d, Draft) and not d.text}
    contents = {number: hashlib.sha256(picture((number, 0, 0))).hexdigest() for number in range(1, 61)}
    assert blind == {number for number, sha256 in contents.items() if is_blind(sha256, 0.3)}
    assert 0.1 < len(blind) / 60 < 0.5
    kept = {draft.task_id: draft.withheld for draft in services.store.get_drafts(1, list(range(1, 61)), "v1")}
    assert {number for number, text in kept.items() if text} == blind, "the words are kept, to be judged"
    assert not any(kept[number] is not None for number in kept.keys() - blind)
    again = services.drafting.draft(1, tasks, served(services, "v2"))
    assert blind == {d.task_id for d in again if isinstance(d, Draft) and not d.text}, "whatever the version"
    for share, version in (("0.9", "v3"), ("0", "v4")):
        services = factories.backend(tmp_path, **{**environ, "CAPTIONER_BLIND_SHARE": share})
        again = services.drafting.draft(1, tasks, served(services, version))
        assert blind == {d.task_id for d in again if isinstance(d, Draft) and not d.text}, "whatever the share"


def test_a_task_whose_image_fails_fails_alone_with_its_reason(services: Services, studio: Host) -> None:
    version = served(services, "v1")
    tasks = [*numbered(1), task(id=2, image=None), *numbered(999), task(id=4, image="nonsense"), *numbered(5)]
    drafted = services.drafting.draft(1, tasks, version)
    assert [type(d) for d in drafted] == [Draft, DraftFailure, DraftFailure, DraftFailure, Draft]
    reasons = {failure.task_id: failure.reason for failure in services.store.failures(1)}
    assert set(reasons) == {2, 999, 4}
    assert "no image under the key" in reasons[2]
    assert "answered 404" in reasons[999]
    studio.answers["/data/upload/1/999.png"] = Answer(200, picture("blue"))
    assert isinstance(services.drafting.draft(1, numbered(999), version)[0], Draft)
    assert {failure.task_id for failure in services.store.failures(1)} == {2, 4}


def test_an_image_that_only_the_captioner_finds_unreadable_fails_alone(services: Services) -> None:
    from training.errors import DataError

    first = hashlib.sha256(picture((1, 0, 0))).hexdigest()

    class Picky(Model):
        def read(self, image):  # type: ignore[no-untyped-def]
            if image.name.startswith(first):
                raise DataError("The image cannot be read.")
            return image

    services.champions._load = lambda checkpoint, device: Picky("v1")
    drafted = services.drafting.draft(1, numbered(1, 2), served(services, "v1"))
    assert [type(d) for d in drafted] == [DraftFailure, Draft]


def test_a_model_that_fails_is_told_for_each_task(services: Services) -> None:
    class Broken(Model):
        def caption_pixels(self, images, **options):  # type: ignore[no-untyped-def]
            raise RuntimeError("out of memory")

    services.champions._load = lambda checkpoint, device: Broken("v1")
    drafted = services.drafting.draft(1, numbered(1, 2), served(services, "v1"))
    assert all(isinstance(d, DraftFailure) and "out of memory" in d.reason for d in drafted)
    assert len(services.store.failures(1)) == 2


def test_without_a_model_nothing_is_fetched_or_recorded(services: Services, studio: Host) -> None:
    drafted = services.drafting.draft(1, numbered(1, 2), None)
    assert drafted == [DraftFailure(1, 1, NO_MODEL), DraftFailure(1, 2, NO_MODEL)]
    assert studio.asked == []
    assert services.store.failures(1) == []


def test_the_project_of_setup_opens_its_images(tmp_path: Path, studio: Host) -> None:
    services = factories.backend(tmp_path, CAPTIONER_IMAGE_HOSTS=studio.address)
    services.store.save_project(1, "<View/>", studio.url, "b" * 40)
    assert isinstance(services.drafting.draft(1, numbered(1), served(services, "v1"))[0], Draft)
    assert studio.credentials() == ["Token " + "b" * 40]


def late(services: Services, tasks: list[Task], monkeypatch: pytest.MonkeyPatch) -> list[Draft | DraftFailure]:
    """The answer to a request that has no time."""
    with monkeypatch.context() as hasty:
        hasty.setattr("backend.serving.drafting.BUDGET_SECONDS", 0.1)
        hasty.setattr("backend.serving.answers.WAKE_SECONDS", 0.05)
        return services.drafting.draft(1, tasks, "v1")


def end_of_background(services: Services) -> None:
    thread = services.drafting._background._thread
    if thread:
        thread.join(20)
        assert not thread.is_alive()


def test_what_is_done_before_the_budget_ends_is_kept_and_the_rest_goes_on(
    services: Services, studio: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def stuck(handler: BaseHTTPRequestHandler) -> Answer:
        assert release.wait(20)
        return Answer(200, picture("blue"))

    studio.answers["/data/upload/1/2.png"] = stuck
    served(services, "v1")
    services.drafting.draft(1, numbered(1), "v1")
    drafted = late(services, numbered(1, 2), monkeypatch)
    assert [type(d) for d in drafted] == [Draft, DraftFailure]
    reason = "Its turn did not come within 0.1 seconds; it is drafted in the background: ask again."
    assert drafted[1] == services.store.failures(1)[0] == DraftFailure(1, 2, reason)
    release.set()
    end_of_background(services)
    assert [draft.task_id for draft in services.store.get_drafts(1, [2], "v1")] == [2]
    assert services.store.failures(1) == []
    asked = len(studio.asked)
    assert [type(d) for d in services.drafting.draft(1, numbered(1, 2), "v1")] == [Draft, Draft]
    assert len(studio.asked) == asked


def test_a_repeat_joins_what_is_drafted_in_the_background(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Model("v1", threading.Event())
    services.champions._load = lambda checkpoint, device: slow
    served(services, "v1")
    tasks = numbered(*range(1, 61))
    for _ in range(2):
        assert {type(d) for d in late(services, tasks, monkeypatch)} == {DraftFailure}
    with ThreadPoolExecutor(1) as pool:
        repeat = pool.submit(services.drafting.draft, 1, tasks, "v1")
        assert slow.gate
        slow.gate.set()
        assert all(isinstance(d, Draft) for d in repeat.result(20))
    end_of_background(services)
    assert sum(len(batch) for batch in slow.batches) == 60
    assert services.store.counts(1).drafts == 60


def test_stopping_ends_what_goes_on_in_the_background(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Model("v1", threading.Event())
    services.champions._load = lambda checkpoint, device: slow
    served(services, "v1")
    late(services, numbered(*range(1, 61)), monkeypatch)
    services.stop()
    assert services.drafting._background._waiting == {}
    assert slow.gate
    slow.gate.set()


def test_a_hundred_tasks_are_one_request(services: Services) -> None:
    version = served(services, "v1")
    drafted = services.drafting.draft(1, numbered(*range(1, 101)), version)
    assert [d.task_id for d in drafted] == list(range(1, 101))
    assert sum(len(batch) for batch in model(services, "v1").batches) == 100


def test_an_unforeseen_failure_of_one_image_fails_alone(
    services: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    local = services.images.local

    def failing(reference: str, task: Task, project: Project | None = None) -> LocalImage:
        if task.id == 2:
            raise KeyError("a secret of ours")
        return local(reference, task, project)

    monkeypatch.setattr(services.images, "local", failing)
    drafted = services.drafting.draft(1, numbered(1, 2, 3), served(services, "v1"))
    assert [type(d) for d in drafted] == [Draft, DraftFailure, Draft]
    (failure,) = services.store.failures(1)
    assert failure.reason == "Fetching its image failed (KeyError); the captioner's log has the details."
    assert "a secret of ours" in caplog.text


def test_a_caption_without_words_is_no_draft(services: Services) -> None:
    class Speechless(Model):
        def caption_pixels(self, images, **options):  # type: ignore[no-untyped-def]
            return [type(found)("", 0.5) for found in super().caption_pixels(images)]

    services.champions._load = lambda checkpoint, device: Speechless("v1")
    (failure,) = services.drafting.draft(1, numbered(1), served(services, "v1"))
    assert failure == DraftFailure(1, 1, "v1 has no words for its image.")
