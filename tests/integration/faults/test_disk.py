"""A small disk, a tmpfs, is full to its last byte at each write, and has room again afterwards."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from click.testing import CliRunner
from rich.console import Console
from safetensors.numpy import save_file

from backend.cli.main import main
from backend.domain.errors import QueueError, UnreachableImageError
from backend.images.remote import Remote
from backend.queue import Queue
from backend.store.database import now
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.store import Store
from backend.system import redis_server
from backend.system.ports import free_port
from backend.up import steps
from labeling_config import shipped
from tests.factories import checkpoint, correction, picture, saved, settings
from tests.integration.conftest import ROOT, wait_for
from tests.integration.test_two_hosts import PROGRAM
from training.data import manifest
from training.errors import DataError
from training.features.cache import Cache
from training.runtime.files import atomic_folder, is_full

MEGABYTE = 2**20


class Disk:
    """A file system of a few megabytes, which can be filled to its last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Also the room that a page of a file has left is taken: files grow by whole pages."""
        with self._filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


def webhook(number: int) -> dict[str, Any]:
    value = {"text": ["a dot"]}
    caption = {"value": value, "from_name": "caption", "to_name": "image", "type": "textarea"}
    annotation = {"id": number, "task": number, "result": [caption], "updated_at": "2026-01-01T00:00:00Z"}
    project = {"id": 1, "label_config": shipped("caption")}
    return {"action": "ANNOTATION_CREATED", "annotation": annotation, "task": task(number), "project": project}


def task(number: int) -> dict[str, Any]:
    image = f"data:image/png;base64,{base64.b64encode(picture((number, 0, 0))).decode()}"
    return {"id": number, "project": 1, "data": {"image": image}}


def test_a_server_refuses_what_it_cannot_keep_and_goes_on_when_there_is_room(disk: Disk) -> None:
    """Its database, images, log, and the folder for temporary files lie on the disk."""
    given = settings(disk.folder, CAPTIONER_PORT=str(free_port()), REDIS_URL="redis://127.0.0.1:1/0")
    store = Store(given.database_url, given.data_dir)
    store.migrate()
    registry = Registry(store)
    registry.register(ModelVersion("v1", checkpoint(given.data_dir / "models" / "v1")))
    registry.promote(DEFAULT, "v1", reason="for a test", by="test")
    environ = {**os.environ, **given.to_env(), "TMPDIR": str(disk.folder)}
    with (disk.folder / "log").open("wb") as log:
        argv = [sys.executable, "-c", PROGRAM]
        server = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=log, stderr=log)

    def ask(path: str, **body: Any) -> tuple[int, Any]:
        answer = requests.post(f"http://127.0.0.1:{given.port}{path}", json=body, timeout=30)
        return answer.status_code, answer.json()

    def is_drafted(number: int) -> bool:
        try:
            status, found = ask("/predict", tasks=[task(number)], project="1.1", label_config=shipped("caption"))
        except requests.ConnectionError:
            assert server.poll() is None
            return False
        assert status in {200, 503}, found
        return status == 200 and found["results"] != [[]]

    def processes() -> list[str]:
        return Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()

    try:
        wait_for(lambda: is_drafted(1), "the first draft", server)
        began = processes()
        statuses = {1: ask("/webhook", **webhook(1))[0]}
        disk.fill()
        while 503 not in statuses.values():  # a page or two of the database's log may have been written before
            status, answer = ask("/webhook", **webhook(len(statuses) + 1))
            statuses[len(statuses) + 1] = status
        full = f"The database sqlite:///{disk.folder}/captioner.db cannot be used: database or disk is full."
        assert answer == {"error": full}
        assert not is_drafted(2)
        assert requests.get(f"http://127.0.0.1:{given.port}/metrics", timeout=30).status_code == 200
        assert is_drafted(1), "what is stored is served"
        assert processes() == began
        disk.free()
        assert ask("/webhook", **webhook(1000))[0] == 200
        assert is_drafted(2)
    finally:
        server.kill()
        server.wait()
    kept = {number for number, status in statuses.items() if status == 200} | {1000}
    assert {each.annotation_id for each in store.corrections(1)} == kept


def test_redis_refuses_what_it_cannot_keep_and_goes_on_when_there_is_room(disk: Disk) -> None:
    server = redis_server.child(disk.folder)
    server.start()
    try:
        server.await_ready(lambda: redis_server.answers(disk.folder), 20)
        queue = Queue(redis_server.url(disk.folder))
        disk.fill()
        refused: list[str] = []

        def is_refused() -> bool:
            try:
                queue.schedule_reconcile(len(refused) + 1, now())
            except QueueError as error:
                refused.append(str(error))
            return bool(refused)

        wait_for(is_refused, "Redis to notice", server._process)
        assert "MISCONF" in refused[0]
        disk.free()

        def works() -> bool:
            try:
                queue.schedule_reconcile(1000, now())
            except QueueError:
                return False
            return True

        wait_for(works, "Redis to notice that there is room", server._process)
    finally:
        server.stop()


def test_features_that_do_not_fit_leave_those_there_are(disk: Disk) -> None:
    arrays = np.arange(2 * MEGABYTE, dtype=np.float32).reshape(2, -1)
    cache = Cache(disk.folder / "features", arrays[0].shape, "float32")
    cache.add(["a"], arrays[:1])
    disk.fill()
    with pytest.raises(DataError, match=r"cannot be written: No space left on device\.$") as caught:
        cache.add(["b"], arrays[1:])
    assert is_full(caught.value)
    disk.free()
    cache.add(["b"], arrays[1:])
    assert (Cache(disk.folder / "features", arrays[0].shape, "float32").get(["a", "b"]) == arrays).all()


def test_a_checkpoint_and_a_manifest_that_do_not_fit_leave_the_ones_before(disk: Disk) -> None:
    weights = {"weights": np.zeros(MEGABYTE, dtype=np.float32)}
    folder, rows = disk.folder / "p1-v1", disk.folder / "manifest.jsonl"
    with atomic_folder(folder) as unfinished:
        save_file(weights, unfinished / "model.safetensors")
    manifest.save([manifest.Row(disk.folder / "1.png", "1" * 64, ("a dot",))], rows)
    before = {path: path.read_bytes() for path in (folder / "model.safetensors", rows)}
    disk.fill()
    with pytest.raises(Exception) as caught, atomic_folder(folder) as unfinished:
        save_file({"weights": weights["weights"] + 1}, unfinished / "model.safetensors")
    assert is_full(caught.value)
    with pytest.raises(OSError, match="No space left") as full:
        manifest.save([manifest.Row(disk.folder / "2.png", "2" * 64, ("a dot " * 2000,))], rows)
    assert is_full(full.value)
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in disk.folder.iterdir()} == {"p1-v1", "manifest.jsonl", "filler"}


def test_an_upload_that_does_not_fit_is_one_sentence_and_leaves_nothing(disk: Disk) -> None:
    disk.fill()
    with pytest.raises(UnreachableImageError, match=r"cannot be reached: .*No space left on device") as caught:
        Remote(f"file://{disk.folder}/store").put("files/ab/abc", bytes(MEGABYTE))
    assert is_full(caught.value)
    assert [path for path in (disk.folder / "store").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("command", ["export", "report"])
def test_a_report_that_does_not_fit_is_one_sentence_and_leaves_the_one_before(
    disk: Disk, tmp_path: Path, command: str
) -> None:
    given = settings(tmp_path / "data")
    store = Store(given.database_url, given.data_dir)
    store.migrate()
    store.record(saved(*(correction(number, "a dot " * 500) for number in range(1, 20))))
    out = disk.folder / "out"
    argv = [command, "--data-dir", str(given.data_dir), "--project", "1", "--out", str(out)]
    if command == "report":
        out.write_text("the one before")
    disk.fill()
    result = CliRunner().invoke(main, argv)
    assert result.exit_code == 1
    assert "No space left on device" in result.output
    assert "Traceback" not in result.output
    assert {path.name for path in disk.folder.iterdir()} == {"filler"} | ({"out"} if command == "report" else set())


@pytest.mark.parametrize("command", [["up", "--no-label-studio"], ["serve"]])
def test_a_command_that_has_no_room_to_begin_is_one_sentence(
    disk: Disk, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *given: None)  # those of this process stay
    disk.fill()
    place = ["--data-dir", str(disk.folder / "data"), "--port", str(free_port())]
    result = CliRunner().invoke(main, [*command, *place])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert re.search(r"^Error: The d.* full.*\.$", result.output.splitlines()[-1])
    assert "Traceback" not in result.output


def test_output_that_cannot_be_written_does_not_stop_up(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115
    monkeypatch.setattr(steps, "_console", Console(file=full))
    with steps.step("Starting"):
        steps.say("A worker died and was restarted.")
    with suppress(OSError):  # it is written once more
        full.close()
