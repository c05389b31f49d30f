from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from backend.system.ports import bind_error, free_port
from backend.system.processes import RESTARTS_A_MINUTE, Child, ProcessError


def python(tmp_path: Path, code: str) -> Any:
    return Child("The thing", [sys.executable, "-u", "-c", code], tmp_path / "thing.log")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] == "Z"


def await_true(condition: object, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_dies_at_once_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = python(tmp_path, "raise SystemExit('no such device')")
    child.start()
    with pytest.raises(ProcessError, match="no such device"):
        child.await_ready(lambda: False, 10)


def test_a_program_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="The thing could not be started"):
        Child("The thing", [str(tmp_path / "nothing")], tmp_path / "thing.log").start()


def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    child = python(tmp_path, "import time; time.sleep(60)")
    child.start()
    assert not child.revive()
    os.kill(child.pid, signal.SIGKILL)
    await_true(lambda: not child.alive)
    assert child.revive() == "The thing died and was restarted."
    child.stop()


def test_a_child_that_keeps_dying_is_started_a_few_times_a_minute_for_as_long_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    database = tmp_path / "database"
    code = f"import os, time; assert os.path.exists({str(database)!r}), 'no database'; print('found'); time.sleep(60)"
    child, told = python(tmp_path, code), []
    child.start()
    for _ in range(3 * RESTARTS_A_MINUTE):
        now += 1
        child._process.wait()  # type: ignore[union-attr]
        told.append(child.revive())
    assert sum(map(bool, told)) == RESTARTS_A_MINUTE, "then it waits"
    assert "keeps dying" in told[RESTARTS_A_MINUTE - 1]
    assert "no database" in told[RESTARTS_A_MINUTE - 1]
    database.touch()
    now += 60
    assert child.revive(), "it is tried again after a minute"
    monkeypatch.undo()
    await_true(lambda: "found" in child.log.read_text())
    child.stop()


def test_a_child_that_ignores_the_signal_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.system.processes.STOP_SECONDS", 0.3)
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid); time.sleep(60)"
    )
    child = python(tmp_path, code)
    child.start()
    await_true(lambda: child.log.read_text().strip())
    grandchild = int(child.log.read_text())
    child.stop()
    assert not child.alive
    await_true(lambda: gone(grandchild))


def test_children_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from backend.system.processes import Child\n"
        f"c = Child('c', [sys.executable, '-c', 'import time; time.sleep(60)'], Path({str(tmp_path / 'c.log')!r}))\n"
        "c.start(); print(c._process.pid, flush=True); import time; time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    await_true(lambda: gone(pid))


@pytest.mark.timeout(60)
def test_the_web_worker_dies_with_its_arbiter_though_a_request_is_being_served(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-P", "-m", "backend.cli", "serve", "--data-dir", str(tmp_path), "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        arbiter = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        await_true(lambda: bind_error(port) is not None, 30)
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
            assert caller.recv(4096).startswith(b"HTTP/1.1 200")
            caller.sendall(b"POST /webhook HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
            workers = Path(f"/proc/{arbiter.pid}/task/{arbiter.pid}/children").read_text().split()
            assert workers
            arbiter.kill()
            arbiter.wait()
            await_true(lambda: all(gone(int(pid)) for pid in workers), 3)
    finally:
        arbiter.kill()
        arbiter.wait()
    await_true(lambda: bind_error(port) is None, 3)
