"""Asks /health all the time, in a process of its own: what draws the requests keeps the interpreter of its own busy.

    python -m benchmarks.hostile_health URL

It ends with its standard input, and prints as JSON how many milliseconds each answer took, and how many did not come.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time

import requests

PAUSE_SECONDS = 0.05


class Health:
    """Runs this module beside what is done in its context."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.milliseconds: list[float] = []
        self.failed = 0

    def __enter__(self) -> Health:
        argv = [sys.executable, "-m", "benchmarks.hostile_health", self._url]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        answer, _ = self._process.communicate()
        self.milliseconds, self.failed = json.loads(answer)


def main(url: str) -> None:
    milliseconds: list[float] = []
    failed = 0
    with requests.Session() as session:
        session.headers["Connection"] = "close"  # as most that watch a server ask
        while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            begun = time.perf_counter()
            try:
                failed += session.get(f"{url}/health", timeout=10).status_code != 200
            except requests.RequestException:
                failed += 1
            milliseconds.append(1000 * (time.perf_counter() - begun))
    print(json.dumps([milliseconds, failed]))


if __name__ == "__main__":
    main(sys.argv[1])
