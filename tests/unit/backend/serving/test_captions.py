from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from backend.domain.errors import ModelUnavailableError
from backend.images.cache import LocalImage
from backend.serving import captions as module
from backend.serving.captions import Captions
from backend.serving.champions import Champions
from backend.serving.lanes import Lane
from backend.serving.reuse import Reranking
from tests.fakes import Hypothesis, Model
from training.errors import DataError


class Room:
    """Captions by models whose projects are numbered from 1."""

    def __init__(self, *models: Model) -> None:
        by_name = {model.name: model for model in models}
        self.champions = Champions("cpu", lambda checkpoint, device: by_name.pop(checkpoint.name))
        for project_id, model in enumerate(models, start=1):
            self.champions.serve(project_id, model.name, Path(model.name))
        self.captions = Captions(self.champions)

    def ask(
        self, version: str, *names: str, lane: Lane = Lane.LARGE, reranking: Reranking | None = None
    ) -> list[Future[Any]]:
        """Captions of images with these names, which are their contents too, for one request."""
        owner = object()
        images = [LocalImage(Path(f"{name}.jpg"), name) for name in names]
        return [self.captions.ask(version, image, lane, owner, reranking) for image in images]

    def until_ready(self, number: int) -> None:
        """Wait until so many images are decoded and wait for the model."""
        changed, notified = self.captions._changed, self.captions._ready
        deadline = threading.Event()
        while True:
            with changed:
                if len(notified) >= number:
                    return
            assert not deadline.wait(0.001)


def texts(found: Sequence[Future[Any]]) -> list[str]:
    return [each.result(20).text for each in found]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Models with it compute once it is set."""
    made = threading.Event()
    yield made
    made.set()


def names(number: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{place}" for place in range(number)]


def test_captions_come_in_order_with_errors_in_their_place() -> None:
    a, bad, b = Room(Model("v1")).ask("v1", "a", "bad", "b")
    assert texts([a, b]) == ["v1 on a.jpg", "v1 on b.jpg"]
    with pytest.raises(DataError, match=r"bad\.jpg"):
        bad.result(20)


def test_pictures_are_decoded_while_the_model_computes_and_form_its_next_batch(gate: threading.Event) -> None:
    model = Model("v1", gate)
    room = Room(model)
    first = room.ask("v1", "first")
    assert model.started.wait(20)
    several = [room.ask("v1", *names(size, f"{size}-")) for size in (5, 6, 7)]
    room.until_ready(18)
    gate.set()
    assert [texts(each) for each in several] == [
        [f"v1 on {size}-{place}.jpg" for place in range(size)] for size in (5, 6, 7)
    ]
    assert texts(first) == ["v1 on first.jpg"]
    assert [len(batch) for batch in model.batches] == [1, 18]


def test_only_so_many_are_decoded_ahead(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD", 3)

    class Counting(Model):
        kept = most = 0

        def read(self, image: Path) -> Any:
            with lock:
                self.kept += 1
                self.most = max(self.most, self.kept)
            return super().read(image)

        def caption_pixels(self, images: Sequence[Any], **options: Any) -> list[Hypothesis]:
            with lock:
                self.kept -= len(images)
            return super().caption_pixels(images)

    lock, model = threading.Lock(), Counting("v1", gate)
    room = Room(model)
    first = room.ask("v1", "first")
    assert model.started.wait(20)
    many = room.ask("v1", *names(20))
    room.until_ready(3)
    one = room.ask("v1", "one", lane=Lane.SMALL)
    room.until_ready(4)
    gate.set()
    assert len(texts([*first, *many, *one])) == 22
    assert model.most <= 3 + 1 + 3
    assert max(map(len, model.batches)) <= 3


def test_a_small_request_goes_first_and_in_a_batch_of_small_ones(gate: threading.Event) -> None:
    model = Model("v1", gate)
    room = Room(model)
    first = room.ask("v1", "first")
    assert model.started.wait(20)
    many = room.ask("v1", *names(40))
    room.until_ready(40)
    one, other = room.ask("v1", "one", lane=Lane.SMALL), room.ask("v1", "other", lane=Lane.SMALL)
    room.until_ready(42)
    gate.set()
    texts([*first, *many, *one, *other])
    assert model.batches[1] == ["one.jpg", "other.jpg"]
    assert [len(batch) for batch in model.batches] == [1, 2, 32, 8]


def test_an_image_that_a_small_request_asks_for_too_is_hastened_and_computed_once(gate: threading.Event) -> None:
    model = Model("v1", gate)
    room = Room(model)
    first = room.ask("v1", "first")
    assert model.started.wait(20)
    many = room.ask("v1", *names(40), lane=Lane.BACKGROUND)
    room.until_ready(40)
    one = room.ask("v1", "39", lane=Lane.SMALL)
    assert one == many[-1:]
    gate.set()
    texts([*first, *many])
    assert model.batches[1] == ["39.jpg"]
    assert sum(map(len, model.batches)) == 41


def test_batches_on_a_cpu_are_as_large_as_half_a_second_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Slow(Model):
        device = SimpleNamespace(type="cpu")

        def caption_pixels(self, images: Sequence[Any], **options: Any) -> list[Hypothesis]:
            clock[0] += 0.09 * len(images)
            return super().caption_pixels(images)

    model = Slow("v1", threading.Event())
    room = Room(model)
    found = room.ask("v1", *names(21))
    assert model.started.wait(20)
    room.until_ready(20)
    assert model.gate
    model.gate.set()
    texts(found)
    assert [len(batch) for batch in model.batches] == [1, 5, 5, 5, 5]


def test_versions_are_never_mixed_in_a_batch_and_take_turns(gate: threading.Event) -> None:
    first, second = Model("v1", gate), Model("v2")
    room = Room(first, second)
    began = room.ask("v1", "first")
    assert first.started.wait(20)
    long = room.ask("v1", *names(40))
    room.until_ready(40)
    other = room.ask("v2", *names(3))
    room.until_ready(43)
    gate.set()
    assert texts([*began, *long])[1:] == [f"v1 on {number}.jpg" for number in range(40)]
    assert texts(other) == [f"v2 on {number}.jpg" for number in range(3)]
    assert [len(batch) for batch in second.batches] == [3]


def test_a_model_that_fails_fails_its_images_only() -> None:
    class Broken(Model):
        def caption_pixels(self, images: Sequence[Any], **options: Any) -> list[Hypothesis]:
            raise RuntimeError("out of memory")

    class Short(Model):
        def caption_pixels(self, images: Sequence[Any], **options: Any) -> list[Hypothesis]:
            return super().caption_pixels(images)[1:]

    room = Room(Broken("v1"), Model("v2"), Short("v3"))
    for found in room.ask("v1", *names(5)):
        with pytest.raises(ModelUnavailableError, match="The model v1 failed on a batch of images: out of memory"):
            found.result(20)
    with pytest.raises(ModelUnavailableError, match="failed on a batch"):
        room.ask("v3", "a")[0].result(20)
    with pytest.raises(ModelUnavailableError, match="The model v4 is not loaded"):
        room.ask("v4", "a")[0].result(20)
    assert texts(room.ask("v2", "a")) == ["v2 on a.jpg"]


def test_an_unforeseen_failure_to_read_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Model):
        def read(self, image: Path) -> Any:
            raise KeyError("odd")

    with pytest.raises(DataError, match=r"a\.jpg cannot be read: KeyError"):
        Room(Odd("v1")).ask("v1", "a")[0].result(20)
    assert "Traceback" in caplog.text


def test_what_reranks_is_handed_on_and_projects_are_not_mixed_in_a_batch(gate: threading.Event) -> None:
    class Reranked(Model):
        def caption_pixels(self, images: Sequence[Any], *, retrieval: Any = None) -> list[Hypothesis]:
            super().caption_pixels(images)
            return [Hypothesis(f"{retrieval} of {len(images)}", 0.5) for _ in images]

    one, other = Reranking(1, "one"), Reranking(2, "other")  # type: ignore[arg-type]
    model = Reranked("v1", gate)
    room = Room(model)
    first = room.ask("v1", "0")
    assert model.started.wait(20)
    waiting = [room.ask("v1", str(name), reranking=each)[0] for name, each in enumerate((one, other, one))]
    room.until_ready(3)
    gate.set()
    assert texts([*first, *waiting]) == ["None of 1", "one of 2", "other of 1", "one of 2"]


def test_a_swap_releases_the_old_model_from_memory() -> None:
    models = [Model("v1")]
    old = weakref.ref(models[0])
    room = Room(models.pop())
    texts(room.ask("v1", "a"))
    room.champions._load = lambda checkpoint, device: Model(checkpoint.name)
    room.champions.serve(1, "v2", Path("v2"))
    texts(room.ask("v2", "a"))  # the threads, too, have let go
    gc.collect()
    assert old() is None


def test_one_content_is_captioned_once_by_a_version_and_retrieval_memory() -> None:
    first, second = Model("v1"), Model("v2")
    room = Room(first, second)
    reranking = Reranking(1, "a memory")  # type: ignore[arg-type]
    for _ in range(2):
        assert texts(room.ask("v1", "a", "a", "b")) == ["v1 on a.jpg", "v1 on a.jpg", "v1 on b.jpg"]
        assert texts(room.ask("v2", "a")) == ["v2 on a.jpg"]
        assert texts(room.ask("v2", "a", reranking=reranking)) == ["v2 on a.jpg"]
    assert sorted(name for batch in first.batches for name in batch) == ["a.jpg", "b.jpg"]
    assert second.batches == [["a.jpg"], ["a.jpg"]]


def test_only_so_many_hypotheses_are_kept_those_asked_for_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 2)
    model = Model("v1")
    room = Room(model)
    for name in ("a", "b", "a", "c", "a", "b"):
        texts(room.ask("v1", name))
    assert [name for batch in model.batches for name in batch] == ["a.jpg", "b.jpg", "c.jpg", "b.jpg"]


def test_an_image_that_could_not_be_read_is_read_again() -> None:
    class Mended(Model):
        broken = True

        def read(self, image: Path) -> Any:
            if self.broken:
                raise DataError("It is broken.")
            return super().read(image)

    model = Mended("v1")
    room = Room(model)
    with pytest.raises(DataError):
        room.ask("v1", "a")[0].result(20)
    model.broken = False
    assert texts(room.ask("v1", "a")) == ["v1 on a.jpg"]


def test_memory_is_given_back_once_large_requests_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.01)
    given: SimpleQueue[None] = SimpleQueue()
    monkeypatch.setattr(module.memory, "give_back", lambda: given.put(None))
    room = Room(Model("v1"))
    texts(room.ask("v1", "a", lane=Lane.SMALL))
    texts(room.ask("v1", *names(9)))
    given.get(timeout=20)
    texts(room.ask("v1", "b", lane=Lane.SMALL))
    assert given.empty()
