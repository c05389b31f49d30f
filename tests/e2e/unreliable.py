"""A proxy between Label Studio and the backend that loses, repeats, delays and so reorders webhooks, by a seed."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import requests

LONGEST_DELAY_SECONDS = 2.0


class Unreliable:
    """Answers every webhook at once; what becomes of it is drawn. `fates` counts."""

    def __init__(self, target: str, seed: int) -> None:
        self.fates: Counter[str] = Counter()
        self._target = target
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._under_way: list[threading.Timer] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
                proxy._decide(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: `fates` tells."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/webhook"

    def settle(self) -> None:
        """Wait until everything that was only delayed has been delivered."""
        deadline = time.monotonic() + 60
        while any(timer.is_alive() for timer in self._under_way):
            assert time.monotonic() < deadline, "a delayed webhook is never delivered"
            time.sleep(0.05)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _decide(self, body: bytes) -> None:
        with self._lock:
            fate = self._chance.choices(["passed", "lost", "repeated", "delayed"], [30, 25, 15, 30])[0]
            self.fates[fate] += 1
            delays = {"passed": [0.0], "lost": [], "repeated": [0.0, self._delay()], "delayed": [self._delay()]}[fate]
            for delay in delays:
                timer = threading.Timer(delay, self._deliver, [body])
                timer.daemon = True
                self._under_way.append(timer)
                timer.start()

    def _delay(self) -> float:
        return self._chance.uniform(0.1, LONGEST_DELAY_SECONDS)

    def _deliver(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        requests.post(self._target, data=body, headers=headers, timeout=30).raise_for_status()
