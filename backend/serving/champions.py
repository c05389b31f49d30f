"""The loaded champions: one reference a project, swapped once a new checkpoint is completely loaded."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from backend.domain.errors import ModelUnavailableError
from training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np

    from training.decoding.beam_search import Hypothesis
    from training.decoding.retrieval import RetrievalMemory
    from training.decoding.reuse import Correction, FeatureSpace
    from training.errors import DataError

log = logging.getLogger(__name__)

DEFAULT = 0
"""The project id that stands for all projects without a champion of their own."""

BATCH = 32
"""Images captioned at once, from one or several requests."""


class Model(Protocol):
    """The part of `training.captioner.captioner.Captioner` that serving uses."""

    @property
    def feature_space(self) -> FeatureSpace | None: ...

    def caption(
        self, images: Sequence[Path], *, retrieval: RetrievalMemory | None = None
    ) -> list[Hypothesis | DataError]: ...

    def retrieval_with(self, corrections: Sequence[Correction], features: np.ndarray) -> RetrievalMemory | None: ...


Loader = Callable[[Path, str], Model]


@dataclass(eq=False)
class _Request:
    version: str
    paths: Sequence[Path]
    retrieval: RetrievalMemory | None = None
    answers: list[Any] = field(default_factory=list)
    done: Future[list[Any]] = field(default_factory=Future)
    next: int = 0


class Champions:
    """Loaded checkpoints by version, and which of them serves which project. Threads may share it.

    One thread captions. It batches waiting requests, taking an image of each in turn, so that opening one task does not
    wait for a batch of hundreds. `device` is `auto`, `cpu`, `cuda` or `cuda:N`.
    """

    def __init__(self, device: str = "auto", load: Loader | None = None) -> None:
        self._device = device
        self._load = load or _load
        self._loading = threading.Lock()
        self._changed = threading.Condition()  # guards everything below
        self._models: dict[str, Model] = {}
        self._serving: dict[int, str] = {}
        self._refused: dict[int, str] = {}
        self._users: Counter[str] = Counter()
        self._waiting: deque[_Request] = deque()
        self._thread: threading.Thread | None = None

    def serve(self, project_id: int, version: str, checkpoint: Path) -> None:
        """Load the checkpoint unless it is loaded, then let it serve `project_id` (DEFAULT: all without their own).

        The old version answers requests meanwhile. Raises ModelUnavailableError when the checkpoint cannot be loaded;
        the old version then stays, and `refused()` gives the reason.
        """
        with self._loading:
            try:
                model = self._models.get(version) or self._loaded(version, checkpoint)
            except ModelUnavailableError as error:
                with self._changed:
                    self._refused[project_id] = str(error)
                raise
            with self._changed:
                self._models[version] = model
                self._serving[project_id] = version
                self._refused.pop(project_id, None)
                self._release()
        log.info("%s serves %s.", version, f"project {project_id}" if project_id else "projects without their own")

    def withdraw(self, project_id: int) -> None:
        """Let the default champion serve `project_id` from now on."""
        with self._changed:
            self._serving.pop(project_id, None)
            self._refused.pop(project_id, None)
            self._release()

    def serving(self, project_id: int) -> str | None:
        """The loaded version that answers for this project, or None."""
        with self._changed:
            return self._serving.get(project_id) or self._serving.get(DEFAULT)

    def assigned(self) -> dict[int, str]:
        """The version that serves each project with one of its own, and under DEFAULT the default one."""
        with self._changed:
            return dict(self._serving)

    def refused(self) -> dict[int, str]:
        """Why the newest champion of a project could not be loaded, by project."""
        with self._changed:
            return dict(self._refused)

    @contextmanager
    def in_use(self, project_id: int) -> Iterator[str | None]:
        """The version that serves the project; it stays loaded during the `with` block even if another takes over."""
        with self._changed:
            version = self._serving.get(project_id) or self._serving.get(DEFAULT)
            if version is not None:
                self._users[version] += 1
        try:
            yield version
        finally:
            if version is not None:
                with self._changed:
                    self._users[version] -= 1
                    self._release()

    def feature_space(self, version: str) -> FeatureSpace | None:
        """What features of the version are compared by; None where they would change with each version."""
        return self._model(version).feature_space

    def retrieval_with(
        self, version: str, corrections: Sequence[Correction], features: np.ndarray
    ) -> RetrievalMemory | None:
        """The version's retrieval memory with these corrections and features (N, C) of their images."""
        return self._model(version).retrieval_with(corrections, features)

    def _model(self, version: str) -> Model:
        with self._changed:
            model = self._models.get(version)
        if model is None:
            raise ModelUnavailableError(f"The model {version} is not loaded.")
        return model

    def caption(
        self, version: str, paths: Sequence[Path], retrieval: RetrievalMemory | None = None
    ) -> list[Hypothesis | DataError]:
        """One hypothesis an image, in order; a DataError in its place for an unreadable image.

        `retrieval` reranks the beam in place of the version's own memory. The caller keeps the version loaded
        (`in_use`). Raises ModelUnavailableError when it is not, or fails on the images.
        """
        if not paths:
            return []
        request = _Request(version, paths, retrieval, answers=[None] * len(paths))
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="captioner", daemon=True)
                self._thread.start()
            self._waiting.append(request)
            self._changed.notify()
        return request.done.result()

    def _loaded(self, version: str, checkpoint: Path) -> Model:
        try:
            return self._load(checkpoint, self._device)
        except TrainingError as error:
            raise ModelUnavailableError(f"The model {version} cannot be loaded: {error}") from error
        except Exception as error:  # damaged weights, out of memory: in any case the old version must go on
            log.exception("Loading %s from %s failed.", version, checkpoint)
            raise ModelUnavailableError(f"The model {version} cannot be loaded: {error}.") from error

    def _release(self) -> None:
        """Drop models that serve no project and that no request uses. The caller has the lock."""
        self._users = +self._users  # without those at zero
        for version in set(self._models) - {*self._serving.values(), *self._users}:
            del self._models[version]
            log.info("%s is unloaded.", version)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                first = self._waiting[0]
                version = first.version
                model = self._models.get(version)
                batch = self._take(first)
            self._answer(version, model, batch)
            del model, first  # or a version unloaded meanwhile would keep its memory until the next request

    def _take(self, first: _Request) -> list[tuple[_Request, int]]:
        """Up to BATCH images of this request's version, from each waiting request in turn. The caller has the lock.

        Requests with images left go behind those of other versions, so that no version waits forever. Projects with
        corrections of their own are not batched together.
        """

        def is_alike(request: _Request) -> bool:
            return request.version == first.version and request.retrieval is first.retrieval

        alike = [request for request in self._waiting if is_alike(request)]
        batch: list[tuple[_Request, int]] = []
        while alike and len(batch) < BATCH:
            for request in alike[: BATCH - len(batch)]:
                batch.append((request, request.next))
                request.next += 1
            alike = [request for request in alike if request.next < len(request.paths)]
        others = [request for request in self._waiting if not is_alike(request)]
        self._waiting = deque(others + alike)
        return batch

    def _answer(self, version: str, model: Model | None, batch: list[tuple[_Request, int]]) -> None:
        requests = dict.fromkeys(request for request, _ in batch)
        try:
            if model is None:
                raise ModelUnavailableError(f"The model {version} is not loaded.")
            paths = [request.paths[place] for request, place in batch]
            answers = model.caption(paths, retrieval=batch[0][0].retrieval)
            for (request, place), answer in zip(batch, answers, strict=True):
                request.answers[place] = answer
        except Exception as error:  # the thread must go on, and every waiting request needs an answer
            if not isinstance(error, ModelUnavailableError):
                log.exception("%s failed on a batch of %d images.", version, len(batch))
                error = ModelUnavailableError(f"The model {version} failed on a batch of images: {error}.")
            with self._changed:
                self._waiting = deque(other for other in self._waiting if other not in requests)
            for request in requests:
                request.done.set_exception(error)
            return
        for request in requests:
            if request.next == len(request.paths):
                request.done.set_result(request.answers)


def _load(checkpoint: Path, device: str) -> Model:
    # Imported here because torch takes seconds to import: the web process answers /health before.
    from training.captioner.checkpoint import load

    return load(checkpoint, device)
