"""Two web processes on two addresses with data folders of their own: they share PostgreSQL, Redis and an S3 bucket."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from backend.images.sharing import Sharing
from backend.settings import Settings
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from backend.system.ports import free_port
from labeling_config import shipped
from tests import factories
from tests.factories import picture, settings
from tests.integration.conftest import ROOT, wait_for

PROGRAM = """
from pathlib import Path
from backend.settings import Settings
from backend.web import server
from tests.fakes import Model
from training.captioner.checkpoint import check_whole

def load(checkpoint, device):
    check_whole(checkpoint)
    return Model(checkpoint.name)

class Server(server._Server):
    def load(self):
        from backend.web import services
        build = services.build
        services.build = lambda given: build(given, load=load)
        return super().load()

server._Server = Server
server.serve(Settings.from_env())
"""
AGREE_SECONDS = 5.0
SLOW = 4.0
"""A machine on which much else runs may take so many times as long."""


class Machine:
    """One host's web process."""

    def __init__(self, given: Settings) -> None:
        self.url = f"http://{given.host}:{given.port}"
        environ = {**os.environ, **given.to_env()}
        command = [sys.executable, "-c", PROGRAM]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/ready", timeout=10).status_code == 200
        except requests.RequestException:
            return False

    def ask(self, path: str, **body: Any) -> Any:
        answer = requests.post(f"{self.url}{path}", json={"project": "1.1", **body}, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def draft(self, task: int, colour: str) -> tuple[str, str]:
        """The version and the text of the draft for a task with this picture."""
        [result] = self.ask("/predict", tasks=[_task(task, colour)], label_config=shipped("caption"))["results"]
        return result["model_version"], result["result"][0]["value"]["text"][0]


def _task(number: int, colour: str) -> dict[str, Any]:
    image = f"data:image/png;base64,{base64.b64encode(picture(colour)).decode()}"
    return {"id": number, "project": 1, "data": {"image": image}}


def _until(machines: list[Machine], holds: Callable[[Machine], bool]) -> float:
    """Seconds until it holds for each of the machines."""
    began = time.monotonic()
    for machine in machines:
        wait_for(lambda machine=machine: holds(machine), "both machines agree", machine.process)  # type: ignore[misc]
    return time.monotonic() - began


def test_hosts_that_share_no_disk_agree_on_the_champion_and_on_corrections(
    tmp_path: Path, postgresql_url: str, redis_url: str, bucket: str, record_property: Callable[[str, object], None]
) -> None:
    shared = {"DATABASE_URL": postgresql_url, "REDIS_URL": redis_url, "CAPTIONER_IMAGES_URL": bucket}
    worker = settings(tmp_path / "worker", **shared)
    store = Store(worker.database_url, worker.data_dir)
    store.migrate()
    registry, sharing = Registry(store), Sharing(worker, store)

    def trained(name: str) -> None:
        """As a retrain on a third machine ends: uploaded, registered, promoted."""
        folder = factories.checkpoint(worker.data_dir / "models" / name)
        sharing.share(folder)
        registry.register(ModelVersion(name, folder, project_id=1))
        registry.promote(1, name, reason="better", by="gate")

    trained("p1-v1")
    machines = []
    try:
        for number in (1, 2):
            place = {"CAPTIONER_HOST": f"127.0.0.{number}", "CAPTIONER_PORT": str(free_port())}
            machines.append(Machine(settings(tmp_path / f"host{number}", **place, **shared)))
        _until(machines, Machine.is_ready)
        here, there = machines
        here.ask("/setup", schema=shipped("caption"), hostname="http://127.0.0.1:1", access_token="a" * 40)
        assert here.draft(1, "red")[0] == there.draft(2, "blue")[0] == "p1-v1"

        trained("p1-v2")
        seconds = _until(machines, lambda machine: machine.draft(3, "green")[0] == "p1-v2")
        record_property("seconds until both serve the champion", round(seconds, 2))
        assert seconds < AGREE_SECONDS * SLOW
        for number in (1, 2):
            folder = tmp_path / f"host{number}" / "models" / "p1-v2"
            assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "vocabulary.json"}

        assert there.draft(4, "red")[1].startswith("p1-v2 on ")
        caption = {
            "value": {"text": ["a red rectangle"]},
            "from_name": "caption",
            "to_name": "image",
            "type": "textarea",
        }
        annotation = {"id": 7, "task": 1, "result": [caption], "updated_at": "2026-11-28T10:00:00Z"}
        here.ask(
            "/webhook", action="ANNOTATION_CREATED", annotation=annotation, task=_task(1, "red"), project={"id": 1}
        )
        seconds = _until([there, here], lambda machine: machine.draft(4, "red")[1] == "a red rectangle")
        record_property("seconds until both reuse the correction", round(seconds, 2))
        assert seconds < AGREE_SECONDS * SLOW
    finally:
        for machine in machines:
            machine.process.terminate()
        for machine in machines:
            machine.process.wait(timeout=60)
        store.close()
