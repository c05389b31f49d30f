"""Ready-made values for tests; every field may be overridden."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from backend.domain.corrections import Correction, Draft, Event, Task
from backend.settings import Settings
from backend.store.registry import ModelVersion
from backend.web.services import Services, build
from tests.fakes import Model


def settings(data_dir: Path, **environ: str) -> Settings:
    """Settings of a data folder; keywords are environment variables, so that they are checked like the user's.

    No task is blind unless it is asked for.
    """
    return Settings.from_env({"CAPTIONER_DATA_DIR": str(data_dir), "CAPTIONER_BLIND_SHARE": "0", **environ})


def backend(data_dir: Path, **environ: str) -> Services:
    """Real services over SQLite, with nobody at the Redis address, and a model that says its name for a captioner."""
    environ = {"REDIS_URL": "redis://127.0.0.1:1/0", **environ}
    return build(settings(data_dir, **environ), load=lambda checkpoint, device: Model(checkpoint.name))


def promoted(services: Services, version: str, project_id: int = 1) -> str:
    """The version, registered and made the project's champion; whoever watches loads it."""
    services.registry.register(ModelVersion(version, services.settings.data_dir / "models" / version))
    services.registry.promote(project_id, version, reason="for a test", by="test")
    return version


def served(services: Services, version: str, project_id: int = 1) -> str:
    """The version, in memory and serving the project."""
    services.champions.serve(project_id, version, services.settings.data_dir / "models" / version)
    return version


def task(id: int = 1, project_id: int = 1, image: str | None = "/data/upload/1/photo.jpg") -> Task:
    return Task(id, project_id, image)


def correction(id: int = 1, text: str = "a red dot", second: float = 0, **fields: Any) -> Correction:
    """A correction of task `id`; a greater `second` is a later revision. An empty text is an empty submit."""
    texts = (text,) if text else ()
    given = {"annotation_id": id, "project_id": 1, "task_id": id, "texts": texts, "typed": texts, **fields}
    return Correction(**{"updated_at": LONG_AGO + timedelta(seconds=second), **given})


def saved(*corrections: Correction, action: str = "ANNOTATION_CREATED", **fields: Any) -> Event:
    """The event of annotations having been saved, with their tasks."""
    tasks = tuple(task(each.task_id, each.project_id, f"/data/upload/1/{each.task_id}.jpg") for each in corrections)
    project_id = corrections[0].project_id if corrections else 1
    return Event(**{"action": action, "project_id": project_id, "corrections": corrections, "tasks": tasks, **fields})


def draft(task_id: int = 1, version: str = "v1", text: str = "a dot", **fields: Any) -> Draft:
    image = f"/data/upload/1/{task_id}.jpg"
    return Draft(
        **{
            "project_id": 1,
            "task_id": task_id,
            "version": version,
            "image": image,
            "text": text,
            "score": 0.5,
            **fields,
        }
    )


LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def picture(colour: Any = "red", kind: str = "PNG", size: tuple[int, int] = (16, 12)) -> bytes:
    """The bytes of a small image; another colour is another content."""
    buffer, image = io.BytesIO(), Image.new("RGB", size, colour)
    options: dict[str, Any] = {"save_all": True, "append_images": [image]} if kind == "MPO" else {}  # one is no MPO
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def checkpoint(folder: Path) -> Path:
    """A checkpoint that is whole as far as that shows before it is loaded: it has no weights of any use."""
    folder.mkdir(parents=True)
    empty = {name: {} for name in ("encoder", "decoder", "transform", "decoding", "style")}
    (folder / "config.json").write_text(json.dumps({"format": 3, **empty, "extra": {"code": "captioner 1.0"}}))
    (folder / "vocabulary.json").write_text("[]")
    header = b"{}"
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder
