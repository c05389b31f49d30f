"""A training in a process of its own: `python training_process.py REQUEST`, a JSON file. It can die in the middle."""

import json
import os
import signal
import sys
from pathlib import Path

from training.config import TrainingConfig
from training.data import manifest
from training.learning import resume, step
from training.learning.train import Progress, train
from training.runtime import device


def main(request: dict[str, str]) -> None:
    """Where `die` is "reward 2 1", the process is killed after step 1 of epoch 2 of the stage called so."""

    def follow(progress: Progress) -> None:
        if request.get("die") == f"{progress.phase} {progress.epoch} {progress.step}":
            os.kill(os.getpid(), signal.SIGKILL)

    assert resume.Resume.__init__.__kwdefaults__
    resume.Resume.__init__.__kwdefaults__["every_seconds"] = 0.0
    if "exact" in request:
        device.has_bfloat16 = lambda device: False
        step.SHIFT = 0  # by chance, of which each process has its own
    train(
        manifest.load(Path(request["manifest"])),
        Path(request["out"]),
        TrainingConfig.from_json(json.loads(request["config"])),
        cache_dir=Path(request["cache"]),
        progress=follow,
        device="cpu",
    )


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
