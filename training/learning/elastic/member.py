"""One of the processes that train together: `python -m training.learning.elastic.member FOLDER AGENT`.

It reports in lines of JSON on its output: progress and log, of the first process only, and why the training failed.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from training.runtime.processes import end_with_parent

MOST_CHARACTERS = 1500
"""Of a message: a line of more bytes than a pipe takes at once, 4096, could be torn by that of another process."""
PATHS = {"out", "cache_dir", "tensorboard"}


class Channel(logging.Handler):
    """Writes each report at once, so that those of several processes do not mix."""

    def __init__(self) -> None:
        super().__init__()
        self._output = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no report

    def report(self, **report: Any) -> None:
        os.write(self._output, (json.dumps(report) + "\n").encode())

    def emit(self, record: logging.LogRecord) -> None:
        self.report(log=[record.levelno, record.name, record.getMessage()[:MOST_CHARACTERS]])


def main(folder: Path) -> int:
    """Train what the folder asks for; exit status."""
    channel = Channel()
    try:
        _train(folder, channel)
    except Exception as error:
        reason, place = str(error), traceback.format_exc()
        name = type(error).__name__
        channel.report(failed=name, reason=reason[:MOST_CHARACTERS], traceback=place[-MOST_CHARACTERS:])
        return 1
    return 0


def _train(folder: Path, channel: Channel) -> None:
    from torch import distributed

    from training.captioner import checkpoint
    from training.config import TrainingConfig
    from training.data import manifest
    from training.learning.train import Progress, train

    request = json.loads((folder / "request.json").read_text())
    config = request.pop("config")
    leads = distributed.get_node_local_rank() == 0
    if leads:
        logging.basicConfig(level=logging.INFO, handlers=[channel])
    else:
        logging.disable(logging.WARNING)

    def report(progress: Progress) -> None:
        channel.report(progress=vars(progress))

    start = folder / "start"
    options: dict[str, Any] = {
        name: Path(value) if name in PATHS and value else value for name, value in request.items()
    }
    train(
        manifest.load(folder / "manifest.jsonl"),
        config=TrainingConfig.from_json(config),
        start_from=checkpoint.load(start, "cpu") if start.exists() else None,
        progress=report if leads else None,
        **options,
    )


if __name__ == "__main__":
    end_with_parent()
    if os.getppid() == int(sys.argv[2]):  # else it has died before the line above
        sys.exit(main(Path(sys.argv[1])))
