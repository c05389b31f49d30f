"""Two hosts that share PostgreSQL, Redis and an S3 server, and no disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Self

from backend.store.keeping.shared import SharedFiles
from backend.store.registry import ModelVersion, Registry
from tests.e2e.bare import Bare
from tests.e2e.stack import FEW_EPOCHS, Captioning, await_true
from tests.e2e.studio import Studio


class Hosts(Captioning):
    """`captioner serve` on one host and `captioner worker` on the other, each with a data folder of its own.

    They have a project in the Label Studio of an `up`, with the same images and the same captioner to begin with.
    """

    def __init__(self, data_dir: Path, up: Captioning, **environ: str) -> None:
        studio = Studio(up.state["label_studio_url"], up.state["token"], up.data_dir)
        self._bare = Bare(data_dir, studio, path=FEW_EPOCHS, **environ)
        self._images = sorted((up.data_dir / "scenes").glob("*.jpg"))
        self.data_dir, self.environ = data_dir, self._bare.settings.to_env()
        self.state = {**up.state, "settings": self.environ}
        [starter] = (up.data_dir / "models").glob("starter-*")
        self._starter = starter.name
        self._own = Path(shutil.copytree(starter, data_dir / "models" / starter.name))
        Registry(self._bare.store).register(ModelVersion(starter.name, self._own))

    def __enter__(self) -> Self:
        self._bare.__enter__()
        try:
            project, _ = self._bare.open_project("On services", self._images, self._starter)
            shared = SharedFiles(self._bare.store)  # until it is there, a retrain on the other host would be postponed
            await_true(lambda: shared.of(self._own), 60, "the captioner in the store")
        except BaseException:
            self._bare.stop()
            raise
        self.state["project"] = project
        return self

    def __exit__(self, *error: object) -> None:
        self._bare.stop()
