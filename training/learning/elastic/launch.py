"""`train` for one device or several, called as if it ran in this process."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import distributed

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.errors import CheckpointError, ConfigError, DataError, TrainingError, WeightsError
from training.learning import train as alone
from training.learning.train import Progress
from training.learning.trainer import DivergedError
from training.runtime.device import available_cores, choose
from training.runtime.processes import end_with_parent

AGENT = (sys.executable, "-P", "-m", "training.learning.elastic.agent")
ERRORS = {
    each.__name__: each
    for each in (TrainingError, CheckpointError, ConfigError, DataError, DivergedError, WeightsError)
}
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Gradients go through memory or this interface: no other machine can reach the processes."""


def train(
    rows: Sequence[Row],
    out: Path,
    config: TrainingConfig,
    *,
    start_from: Captioner | None = None,
    device: str = "auto",
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Path:
    """`training.learning.train.train`. Where `device` names several, such as "cuda:0,cuda:1", a process for each shares
    every batch, which gives the same captioner within rounding, apart from what is left to chance.

    The processes end before this returns, with this process, however it ends, and when `progress` raises.

    Raises what that function raises, TrainingError where one of the processes is killed, and RuntimeError, with the
    traceback as a note, where one fails for a reason that nobody foresaw.
    """
    if "," not in device or distributed.is_torchelastic_launched():
        return alone.train(rows, out, config, start_from=start_from, device=device, progress=progress, **options)
    choose(device)
    folder = out.with_name(f".{out.name}.handed-over").absolute()
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    try:
        folder.mkdir(parents=True)
        manifest.save(rows, folder / "manifest.jsonl")
        if start_from is not None:
            checkpoint.save(folder / "start", start_from)
        request = {name: _plain(value) for name, value in options.items()}
        request |= {"out": str(out.absolute()), "config": config.to_json(), "device": device}
        (folder / "request.json").write_text(json.dumps(request))
        _follow(folder, device.split(","), progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def _plain(value: Any) -> Any:
    """An option of `train` as JSON has it."""
    if isinstance(value, Path):
        return str(value.absolute())
    return value if value is None or isinstance(value, bool) else list(value)


def _follow(folder: Path, devices: Sequence[str], progress: Callable[[Progress], None] | None) -> None:
    """Run the processes and pass on what they report; none is left when this returns or raises."""
    threads = str(max(1, available_cores() // len(devices)))
    failed: list[dict[str, Any]] = []
    agent = subprocess.Popen(
        [*AGENT, str(folder), str(len(devices))],
        env={"OMP_NUM_THREADS": threads, **os.environ, **LOOPBACK},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    assert agent.stdout
    try:
        for report in _reports(agent.stdout):
            if "failed" in report:
                failed.append(report)
            elif "log" in report:
                level, name, message = report["log"]
                logging.getLogger(name).log(level, "%s", message)
            elif progress:
                progress(Progress(**report["progress"]))
        agent.wait()
    finally:
        if agent.returncode is None:
            agent.kill()  # the kernel ends the others with it
        agent.communicate()  # until all have closed their output
    if failed or agent.returncode != 0:
        raise _error(failed, devices)


def _reports(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):  # what a library prints, or half a line of a process that was killed
            yield json.loads(line)


def _error(failed: Sequence[dict[str, Any]], devices: Sequence[str]) -> Exception:
    """What ended the training. A process that loses another fails as well, so what has a reason of its own counts."""
    for each in failed:
        if each["failed"] in ERRORS:
            return ERRORS[each["failed"]](each["reason"])
    for each in failed:
        if each["failed"] == "killed":
            return TrainingError(
                f"The process that trained on {devices[each['rank']]} was killed by signal {each['signal']}: perhaps "
                f"the machine's memory did not suffice for {len(devices)} processes; name fewer devices "
                f"(CAPTIONER_DEVICE, --device)."
            )
    for each in failed:
        error = RuntimeError(each["reason"])
        error.add_note(each["traceback"])
        return error
    names = ", ".join(devices)
    return RuntimeError(f"The processes for {names} ended without a result; their lines in the log say why.")
