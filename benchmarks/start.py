"""Measures how long `captioner serve` and `captioner up` take from their start to the first draft.

    python -m benchmarks.start [--quick]

`up --no-label-studio --checkpoint STARTER` starts over an empty data folder, `serve` over one whose champion is the
starter, each five times after one start that does not count: it fills the page cache and compiles what is not compiled
yet. The picture is generated, another one each time, and comes as a `data:` address.
"""

from __future__ import annotations

import base64
import io
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import click
import requests
from PIL import Image

import labeling_config
from backend.domain.errors import CaptionerError
from backend.settings import loopback_without_proxy
from backend.system.ports import free_port
from benchmarks.report import report
from training.captioner import bundled
from training.runtime.processes import end_with_parent

STARTS = 5
POLL_SECONDS, LIMIT_SECONDS, STOP_SECONDS = 0.02, 300.0, 60.0
PARTS = ("health", "ready", "first_draft")
MEANINGS = {
    "serve_to_health_s": "s, `captioner serve` until /health answers, median",
    "serve_to_ready_s": "s, until /ready answers 200",
    "start_to_first_draft_s": "s, until the first draft (target: 5)",
    "up_to_health_s": "s, `captioner up --no-label-studio --checkpoint` until /health answers",
    "up_to_ready_s": "s, until /ready answers 200; the checkpoint may not be promoted yet",
    "up_to_first_draft_s": "s, until the first draft (target: 6)",
    "serve_slowest_s": "s, the slowest start of serve",
    "up_slowest_s": "s, the slowest start of up",
    "starts": "of each command that count",
    "load_average": "processes that wanted a core at the end (1 min)",
}


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run: one start of each.")
def main(quick: bool) -> None:
    starts = 1 if quick else STARTS
    loopback_without_proxy()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="captioner-start-") as name:
        up = ["up", "--no-label-studio", "--checkpoint", str(bundled.starter())]
        for command, argv in (("up", up), ("serve", ["serve"])):
            found = []
            for number in range(starts if quick else starts + 1):
                # serve starts over the folder of the first up, whose champion is the starter
                found.append(_start([*argv, "--data-dir", f"{name}/{number if command == 'up' else 0}"]))
                print(f"{command} {number}: {found[-1]}", file=sys.stderr)
            counted = found[-starts:]
            for part in PARTS:
                first = "start" if (command, part) == ("serve", "first_draft") else command
                figures[f"{first}_to_{part}_s"] = statistics.median(each[part] for each in counted)
            figures[f"{command}_slowest_s"] = max(each["first_draft"] for each in counted)
    report("start", figures | {"starts": starts, "load_average": os.getloadavg()[0]}, MEANINGS)


def _start(argv: list[str]) -> dict[str, float]:
    """Seconds from the start of the command to each of PARTS; it is stopped then."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    body = _request()
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "backend.cli", *argv, "--port", str(port)],
        env=environ | {"CAPTIONER_BLIND_SHARE": "0"},
        stdout=sys.stderr,
        start_new_session=True,
        preexec_fn=lambda: end_with_parent(signal.SIGTERM),
    )

    def until(part: str, answers: Callable[[], bool]) -> float:
        while not answers():
            if process.poll() is not None or time.monotonic() - begun > LIMIT_SECONDS:
                raise CaptionerError(f"`captioner {argv[0]}` did not come to {part}; its output says why.")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - begun

    def drafts() -> bool:
        answer = _answer("POST", f"{url}/predict", json=body)
        return bool(answer and answer.json()["results"][0])

    try:
        return {
            "health": until("health", lambda: _answer("GET", f"{url}/health") is not None),
            "ready": until("ready", lambda: _answer("GET", f"{url}/ready") is not None),
            "first_draft": until("first_draft", drafts),
        }
    finally:
        _stop(process)


def _answer(method: str, url: str, **options: Any) -> requests.Response | None:
    try:
        answer = requests.request(method, url, timeout=LIMIT_SECONDS, **options)
    except requests.RequestException:
        return None
    return answer if answer.ok else None


def _request() -> dict[str, Any]:
    """A request for the draft of one task with a picture of its own."""
    picture = io.BytesIO()
    Image.effect_noise((1280, 960), 60).convert("RGB").save(picture, "JPEG")
    image = f"data:image/jpeg;base64,{base64.b64encode(picture.getvalue()).decode()}"
    task = {"id": time.time_ns() % 2**31, "data": {"image": image}}
    return {"tasks": [task], "project": "1.1", "label_config": labeling_config.shipped("caption")}


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
