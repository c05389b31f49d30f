"""The loaded champions: one reference a project, swapped once a new checkpoint is completely loaded."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from backend.domain.errors import CaptionerError, ModelUnavailableError
from training.captioner.checkpoint import check_digest
from training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from training.config import DecodingConfig
    from training.decoding.beam_search import Hypothesis
    from training.decoding.retrieval import RetrievalMemory
    from training.decoding.reuse import Correction, FeatureSpace
    from training.errors import DataError

log = logging.getLogger(__name__)

DEFAULT = 0
"""The project id that stands for all projects without a champion of their own."""

BATCH = 32
"""The most images captioned at once, from one or several requests."""


class Model(Protocol):
    """The part of `training.captioner.captioner.Captioner` that serving uses."""

    @property
    def device(self) -> torch.device: ...

    @property
    def feature_space(self) -> FeatureSpace | None: ...

    def accelerate(self, folder: Path) -> None: ...

    def read(self, image: Path) -> np.ndarray: ...

    def caption_pixels(
        self, pixels: Sequence[np.ndarray], *, retrieval: RetrievalMemory | None = None
    ) -> list[Hypothesis]: ...

    def complete(self, pixels: Sequence[np.ndarray], hint: str) -> list[Hypothesis]: ...

    @property
    def decoding(self) -> DecodingConfig: ...

    def caption_n_best(
        self, images: Sequence[Path], number: int, decoding: DecodingConfig | None = None
    ) -> Iterator[tuple[list[Hypothesis], torch.Tensor] | DataError]: ...

    def retrieval_with(self, corrections: Sequence[Correction], features: np.ndarray) -> RetrievalMemory | None: ...


Loader = Callable[[Path, str], Model]


class Champions:
    """Loaded checkpoints by version, and which of them serves which project. Threads may share it.

    `device` is `auto`, `cpu`, `cuda` or `cuda:N`. `compiled` is the folder for what makes captioners faster, if any.
    `fetch` is called with a checkpoint's folder before it is loaded, and fetches what this machine lacks of it.
    """

    def __init__(
        self,
        device: str = "auto",
        load: Loader | None = None,
        compiled: Path | None = None,
        fetch: Callable[[Path], None] | None = None,
    ) -> None:
        self._device = device
        self._fetch = fetch
        self._compiled = compiled
        self._load = load or _load
        self._loading = threading.Lock()
        self._lock = threading.Lock()  # guards everything below
        self._models: dict[str, Model] = {}
        self._digests: dict[str, str] = {}
        self._serving: dict[int, str] = {}
        self._refused: dict[int, str] = {}
        self._users: Counter[str] = Counter()

    def serve(self, project_id: int, version: str, checkpoint: Path, digest: str | None = None) -> None:
        """Load the checkpoint unless it is loaded, then let it serve `project_id` (DEFAULT: all without their own).

        `digest` is that of the checkpoint as it is known: a folder that has another one now is not loaded, and one that
        was loaded with another one is loaded again.

        The old version answers requests meanwhile. Raises ModelUnavailableError when the checkpoint cannot be loaded;
        the old version then stays, and `refused()` gives the reason.
        """
        with self._loading:
            try:
                known = None if self.has_changed(version, digest) else self._models.get(version)
                model = known or self._loaded(version, checkpoint, digest)
            except ModelUnavailableError as error:
                with self._lock:
                    self._refused[project_id] = str(error)
                raise
            with self._lock:
                self._models[version] = model
                if digest is not None:
                    self._digests[version] = digest
                self._serving[project_id] = version
                self._refused.pop(project_id, None)
                self._release()
        log.info("%s serves %s.", version, f"project {project_id}" if project_id else "projects without their own")

    def prepare(self) -> None:
        """Import what loading needs, where nothing is loaded yet: torch takes seconds."""
        if self._load is _load and not self._models:
            import training.captioner.captioner  # noqa: F401

    def has_changed(self, version: str, digest: str | None) -> bool:
        """Whether the version was loaded from a checkpoint with another digest; None is none yet, or again."""
        with self._lock:
            return digest is not None and self._digests.get(version, digest) != digest

    def withdraw(self, project_id: int) -> None:
        """Let the default champion serve `project_id` from now on."""
        with self._lock:
            self._serving.pop(project_id, None)
            self._refused.pop(project_id, None)
            self._release()

    def serving(self, project_id: int) -> str | None:
        """The loaded version that answers for this project, or None."""
        with self._lock:
            return self._serving.get(project_id) or self._serving.get(DEFAULT)

    def assigned(self) -> dict[int, str]:
        """The version that serves each project with one of its own, and under DEFAULT the default one."""
        with self._lock:
            return dict(self._serving)

    def refused(self) -> dict[int, str]:
        """Why the newest champion of a project could not be loaded, by project."""
        with self._lock:
            return dict(self._refused)

    def device_memory(self) -> dict[str, tuple[int, int]]:
        """Bytes in use and in all of each GPU that a loaded model is on."""
        with self._lock:
            devices = {str(model.device) for model in self._models.values() if model.device.type == "cuda"}
        if not devices or self._load is not _load:
            return {}
        import torch  # loaded already

        memory = {device: torch.cuda.mem_get_info(device) for device in sorted(devices)}
        return {device: (total - free, total) for device, (free, total) in memory.items()}

    @contextmanager
    def in_use(self, project_id: int) -> Iterator[str | None]:
        """The version that serves the project; it stays loaded during the `with` block even if another takes over."""
        with self._lock:
            version = self._serving.get(project_id) or self._serving.get(DEFAULT)
            if version is not None:
                self._users[version] += 1
        try:
            yield version
        finally:
            if version is not None:
                self.let_go(version)

    def hold(self, version: str) -> None:
        """Keep a version that is loaded, whatever takes over, until it is `let_go` as often."""
        with self._lock:
            self._users[version] += 1

    def let_go(self, version: str) -> None:
        with self._lock:
            self._users[version] -= 1
            self._release()

    def model(self, version: str) -> Model:
        """The loaded model. The caller keeps it loaded (`in_use`). Raises ModelUnavailableError when it is not."""
        with self._lock:
            model = self._models.get(version)
        if model is None:
            raise ModelUnavailableError(f"The model {version} is not loaded.")
        return model

    def _loaded(self, version: str, checkpoint: Path, digest: str | None) -> Model:
        try:
            if self._fetch:
                self._fetch(checkpoint)
            check_digest(checkpoint, digest)
            model = self._load(checkpoint, self._device)
        except (CaptionerError, TrainingError) as error:
            raise ModelUnavailableError(f"The model {version} cannot be loaded: {error}") from error
        except Exception as error:  # damaged weights, out of memory: in any case the old version must go on
            log.exception("Loading %s from %s failed.", version, checkpoint)
            raise ModelUnavailableError(f"The model {version} cannot be loaded: {error}.") from error
        if self._load is _load and self._compiled:
            # beside the first requests; a process that ends meanwhile waits for it, since torch must not be cut off
            threading.Thread(target=model.accelerate, args=(self._compiled,), name="accelerate").start()
        return model

    def _release(self) -> None:
        """Drop models that serve no project and that no request uses. The caller has the lock."""
        self._users = +self._users  # without those at zero
        for version in set(self._models) - {*self._serving.values(), *self._users}:
            del self._models[version]
            self._digests.pop(version, None)
            log.info("%s is unloaded.", version)


def _load(checkpoint: Path, device: str) -> Model:
    # Imported here because torch takes seconds to import: the web process answers /health before.
    from training.captioner.checkpoint import load
    from training.runtime.device import limit_threads

    limit_threads()
    return load(checkpoint, device).warm_up()
