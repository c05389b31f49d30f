"""Two web processes of one server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families as families

from backend.system.ports import free_port
from tests.factories import settings
from tests.integration.conftest import ROOT, wait_for

PROGRAM = """
import os
from backend.settings import Settings
from backend.web import server
from tests.fakes import Model

class Server(server._Server):
    def load(self):
        from backend.web import services
        build = services.build
        services.build = lambda given: build(given, load=lambda checkpoint, device: Model(checkpoint.name))
        return super().load()

server._Server = Server
server.MEMORY = os.environ["TMPDIR"]
server.serve(Settings.from_env())
"""


def test_metrics_and_logs_are_those_of_all_processes_whichever_is_asked(tmp_path: Path) -> None:
    given = settings(
        tmp_path / "data",
        CAPTIONER_PORT=str(free_port()),
        CAPTIONER_WEB_WORKERS="2",
        CAPTIONER_LOG_FORMAT="json",
        REDIS_URL="redis://:open-sesame@127.0.0.1:1/0",
    )
    environ = {**os.environ, **given.to_env(), "TMPDIR": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        argv = [sys.executable, "-c", PROGRAM]
        server = subprocess.Popen(argv, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stderr=log)
    try:

        def processes() -> set[int]:
            found = tmp_path.glob("captioner-metrics-*/counter_*.db")
            return {int(path.stem.removeprefix("counter_")) for path in found}

        wait_for(lambda: len(processes()) == 2, "two web processes", server)
        for _ in range(40):
            assert requests.get(f"{given.backend_url}/versions", timeout=30).status_code == 200
        assert {_answered(given.backend_url) for _ in range(8)} == {40}

        wrong = requests.post(
            f"{given.backend_url}/predict?token=open-sesame", b"no JSON", headers={"X-Request-ID": "ours"}, timeout=30
        )
        assert (wrong.status_code, wrong.headers["X-Request-ID"]) == (400, "ours")

        first = min(processes())
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(processes()) == 3, "another process in place of the killed one", server)
        assert {_answered(given.backend_url) for _ in range(8)} == {40}, "what it had counted stays"
    finally:
        server.terminate()
        server.wait(timeout=60)
    assert list(tmp_path.glob("captioner-metrics-*")) == []

    said = (tmp_path / "log").read_text()
    lines = [json.loads(line) for line in said.splitlines()]
    assert {line["logger"] for line in lines} >= {"gunicorn.error", "backend.web.app"}
    [about] = [line["message"] for line in lines if line.get("request") == "ours"]
    assert about == "POST /predict: The request body is not a JSON object."
    assert "open-sesame" not in said


def _answered(url: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=30).text
    found = [
        sample.value
        for family in families(text)
        for sample in family.samples
        if sample.name == "captioner_requests_total" and sample.labels["endpoint"] == "versions"
    ]
    assert len(found) == 1
    return found[0]
