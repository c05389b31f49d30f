"""A worker of benchmarks.preannotate: `captioner worker`, which notes how long each request to Label Studio takes.

The jobs that it forks note theirs as well. It must import no torch.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from backend.label_studio.api import Api
from backend.queue import Queue
from backend.settings import Settings

NOTES = "requests.txt"


def main() -> None:
    settings = Settings.from_env()
    _note_requests(settings.data_dir / NOTES)
    Queue(settings.redis_url).work()


def _note_requests(notes: Path) -> None:
    send = Api._send

    def noted(self: Api, method: str, path: str, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return send(self, method, path, **options)
        finally:
            with notes.open("a") as file:  # one write, so that processes may share the file
                file.write(f"{time.perf_counter() - begun:.4f} {method} {path}\n")

    Api._send = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
