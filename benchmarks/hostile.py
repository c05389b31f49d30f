"""Sends hostile requests to a real `captioner serve`, and mutated image files to all that decodes them.

    python -m benchmarks.hostile [--requests 20000] [--images 5000] [--minutes 60] [--quick]

It needs the extra `dev`: Hypothesis and schemathesis draw the requests, by the description that the server gives. The
server asks for a password; wrong ones come from another loopback address than the rest, so that both the limit to
guessing and the right password are tried at once. The exit status is 1 where a fault was found.
"""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import click
import requests
from PIL import Image

from benchmarks.hostile_health import Health
from benchmarks.hostile_requests import Sent, all_kinds, each
from benchmarks.report import percentile, report
from benchmarks.server import images as host_of
from benchmarks.server import largest_below, predict_request, resident, serving, task
from training.captioner import bundled

USER, PASSWORD = "label", "studio-of-the-benchmark"
STRANGER = "127.0.0.66"
OWN = 1_000_003
"""A project of the picture that is asked for afterwards."""
SENDERS = 8
ANSWER_SECONDS = 100.0
"""As long as Label Studio waits."""
MEANINGS = {
    "requests": "hostile requests sent",
    "answered": "of them answered 2xx or 3xx",
    "refused": "answered 4xx",
    "busy": "answered 503, which is documented",
    "failed": "answered with another 5xx (wanted: 0)",
    "hung": f"not answered within {ANSWER_SECONDS:.0f} s (wanted: 0)",
    "dropped": "connection closed without an answer, though the request was HTTP (wanted: 0)",
    "tracebacks": "in the server's log (wanted: 0)",
    "memory_before_mb": "MB, resident in the process that serves, after a tenth of the requests",
    "memory_after_mb": "MB, at the end",
    "health_p99_ms": "ms, /health beside them, 99th percentile (wanted: 200)",
    "health_failed": "times /health did not answer (wanted: 0)",
    "works_afterwards": "1 where a picture is drafted afterwards",
    "images": "mutated image files decoded",
    "images_read": "of them read all the same",
    "image_faults": "of them without a sentence (wanted: 0)",
    "image_slowest_s": "s, the slowest file, decoded three times",
    "seconds": "s, the whole",
}
FAULTS = ("failed", "hung", "dropped", "tracebacks", "health_failed", "image_faults")


class Sender:
    """Sends requests to one server, and counts what it answers. Threads share it."""

    def __init__(self, url: str) -> None:
        self._port = int(urlsplit(url).port or 0)
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def send(self, sent: Sent) -> None:
        outcome = self._outcome(sent)
        with self._lock:
            self.counts["requests"] += 1
            self.counts[outcome] += 1
            if outcome in FAULTS and len(self.faults) < 100:
                self.faults.append(f"{outcome}: {sent}"[:600])

    def _outcome(self, sent: Sent) -> str:
        try:
            status = self._status(sent)
        except TimeoutError:
            return "hung"
        except (OSError, HTTPException, ValueError):
            return "refused" if sent.raw else "dropped"
        if status >= 500:
            return "busy" if status == 503 else "failed"
        return "refused" if status >= 400 else "answered"

    def _status(self, sent: Sent) -> int:
        source = (STRANGER if "authorization" in _named(sent) else "127.0.0.1", 0)
        connection = socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS, source)
        with connection:
            connection.sendall(_bytes(sent))
            connection.shutdown(socket.SHUT_WR)
            answer = HTTPResponse(connection, method=sent.method)
            answer.begin()
            answer.read()
            return answer.status


def _bytes(sent: Sent) -> bytes:
    lines = [f"{sent.method} {sent.path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
    if "authorization" not in _named(sent):
        lines.append("Authorization: Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
    lines += [f"{name}: {value}" for name, value in sent.headers if name.lower() not in {"host", "connection"}]
    if not sent.raw:
        lines += [f"Content-Length: {len(sent.body)}", "", ""]
        return "\r\n".join(lines).encode("utf-8", "replace") + sent.body
    return "\r\n".join([*lines, ""]).encode("utf-8", "replace") + sent.body


def _named(sent: Sent) -> set[str]:
    return {name.lower() for name, _ in sent.headers}


@click.command()
@click.option("--requests", "number", default=20_000, show_default=True)
@click.option("--images", default=5_000, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="No more requests are begun after so long.")
@click.option("--quick", is_flag=True, help="A smoke run: 150 requests, 100 images.")
def main(number: int, images: int, seed: int, minutes: float, quick: bool) -> None:
    number, images = (150, 100) if quick else (number, images)
    begun = time.monotonic()
    figures: dict[str, float] = dict.fromkeys(MEANINGS, 0)
    with tempfile.TemporaryDirectory(prefix="captioner-hostile-") as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        _picture(folder / "pictures" / "whole.png")
        with host_of(folder / "pictures") as port:
            environ = {"BASIC_AUTH_USER": USER, "BASIC_AUTH_PASS": PASSWORD, "REDIS_URL": "redis://127.0.0.1:1/0"}
            environ |= {"CAPTIONER_IMAGE_HOSTS": f"127.0.0.1:{port}", "CAPTIONER_BLIND_SHARE": "0"}
            with serving(bundled.starter(), folder / "data", environ, (USER, PASSWORD)) as (url, pid):
                faults = _attacked(url, pid, number, seed, begun + 60 * minutes, figures)
                refusal = _refusal(url, f"http://127.0.0.1:{port}/whole.png")
            log = (folder / "data" / "serve.log").read_text(errors="replace")
        figures["tracebacks"] = log.count("Traceback (most recent call last)")
        if figures["tracebacks"]:
            start = log.index("Traceback (most recent call last)")
            faults.append(log[max(0, start - 400) : start + 3000])
        figures["works_afterwards"] = float(not refusal)
        if refusal:
            faults.append(f"The picture was not drafted afterwards, but answered {refusal}: {log[-2000:]}")
    faults += _decoded(images, seed, figures)
    figures["seconds"] = time.monotonic() - begun
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    report("hostile", figures, MEANINGS)
    if not figures["works_afterwards"] or any(figures[name] for name in FAULTS):
        raise click.ClickException("Faults were found; they are told above.")


def _attacked(url: str, pid: int, number: int, seed: int, until: float, figures: dict[str, float]) -> list[str]:
    """Send the requests. Returns the faults."""
    document = requests.get(f"{url}/openapi.json", auth=(USER, PASSWORD), timeout=30).json()
    sender, server = Sender(url), largest_below(pid)
    waiting = threading.Semaphore(4 * SENDERS)
    with Health(url) as health, ThreadPoolExecutor(SENDERS) as pool:

        def send(sent: Sent) -> None:
            if time.monotonic() > until:
                return
            waiting.acquire()
            pool.submit(sender.send, sent).add_done_callback(lambda done: waiting.release())

        each(all_kinds(document), number // 10, seed, send)
        figures["memory_before_mb"] = resident(server) / 1e6
        draws = random.Random(seed)  # Hypothesis tells no more than once what it has drawn, so it begins anew
        while (left := number - sender.counts["requests"]) > 4 * SENDERS and time.monotonic() < until:
            each(all_kinds(document), min(500, left), draws.randrange(2**32), send)
    figures["memory_after_mb"] = resident(server) / 1e6
    figures |= {name: float(sender.counts[name]) for name in MEANINGS if name in sender.counts}
    figures["health_p99_ms"] = percentile(health.milliseconds, 0.99)
    figures["health_failed"] = health.failed
    return sender.faults


def _refusal(url: str, picture: str) -> str:
    """The answer that has no draft of the picture, or nothing where it is drafted in the end: what is still worked on
    has none. No hostile request names its project, because who has the password may set up a project as they like."""
    end, answer = time.monotonic() + ANSWER_SECONDS, ""
    body = predict_request([task(1, picture) | {"project": OWN}]) | {"project": f"{OWN}.1"}
    while time.monotonic() < end:
        answered = requests.post(f"{url}/predict", json=body, auth=(USER, PASSWORD), timeout=ANSWER_SECONDS)
        answer = f"{answered.status_code} {answered.text[:600]}"
        if answered.status_code == 200 and (draft := answered.json()["results"][0]):
            return "" if draft["result"] else answer
        time.sleep(1)
    return answer


def _picture(path: Path) -> None:
    Image.new("RGB", (320, 240), "olive").save(path)


def _decoded(number: int, seed: int, figures: dict[str, float]) -> list[str]:
    """Decode mutated images in a process of its own, which a fault of a decoder in C would end."""
    program = "import sys, json; from benchmarks.hostile_images import decode; r = decode(*map(int, sys.argv[1:])); "
    program += "print(json.dumps([r.files, r.read, r.slowest_seconds, r.faults]))"
    argv = [sys.executable, "-W", "ignore", "-c", program, str(number), str(seed)]
    done = subprocess.run(argv, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        figures["image_faults"] = 1
        return [f"Decoding ended with {done.returncode}: {done.stderr[-2000:]}"]
    files, read, slowest, faults = json.loads(done.stdout.splitlines()[-1])
    figures |= {"images": files, "images_read": read, "image_faults": len(faults), "image_slowest_s": slowest}
    return [str(fault) for fault in faults]


if __name__ == "__main__":
    main()
