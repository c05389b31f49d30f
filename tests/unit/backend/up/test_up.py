"""`captioner up` before and around its processes; the processes themselves are tested end to end."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import filelock
import pytest
from click.testing import CliRunner, Result

from backend.cli.main import main
from backend.domain.errors import CaptionerError
from backend.queue import Queue
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from backend.system import redis_server
from backend.system.ports import free_port
from backend.system.processes import Child
from backend.up import label_studio_server, state
from backend.up.label_studio_server import login
from backend.up.up import Up
from tests.factories import picture, settings


def up(data_dir: Path, *flags: str) -> Result:
    return CliRunner().invoke(main, ["up", "--data-dir", str(data_dir), *flags])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", [b"\0" * 4096, b"no append-only file\n"])
def test_redis_starts_over_a_damaged_file_without_it(
    tmp_path: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonly.aof").write_bytes(damage)
    loop = Up(settings(tmp_path), None, None, None)
    try:
        loop._start_redis()
        assert [child.name for child in loop._children if child.alive] == ["Redis"]
        assert redis_server.answers(tmp_path)
        Queue(redis_server.url(tmp_path)).ping()
        assert len(loop._children) == 1
    finally:
        loop._stop()
    assert not redis_server.answers(tmp_path)
    assert "It starts empty, and the queue is rebuilt from the database." in capsys.readouterr().out
    [aside] = (tmp_path / "redis").glob("damaged-*")
    assert aside.read_bytes() == damage


def test_no_secret_stands_in_the_list_of_processes(tmp_path: Path) -> None:
    given = {
        "BASIC_AUTH_USER": "label",
        "BASIC_AUTH_PASS": "secret-of-studio",
        "DATABASE_URL": "postgresql+psycopg://ann:secret-of-database@127.0.0.1:1/captioner",
        "LABEL_STUDIO_API_KEY": "secret-of-api",
    }
    loop = Up(settings(tmp_path, **given), None, None, None)
    account = login(tmp_path)
    try:
        loop._start_redis()  # Redis writes a title of its own
        shown = Path(f"/proc/{loop._children[0].pid}/cmdline").read_text()
    finally:
        loop._stop()
    children = [loop._command(name, name, "x.log") for name in ("serve", "worker")]
    children.append(label_studio_server.child(tmp_path, 8080, account))
    shown += " ".join(part for child in children for part in child._argv)
    password = str(redis_server.url(tmp_path)).partition("://:")[2].partition("@")[0]
    assert len(password) > 20
    assert "redis" in shown
    for secret in (password, account.password, account.token, "secret-of"):
        assert secret not in shown


def test_setting_aside_nothing_moves_nothing(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    assert redis_server.set_aside(tmp_path) == []


def test_both_ports_are_looked_at_before_anything_starts(tmp_path: Path) -> None:
    port = str(free_port())
    same = up(tmp_path, "--port", port, "--label-studio-port", port)
    assert same.exit_code == 1
    assert same.output.strip().splitlines()[-1].startswith(f"Error: Port {port} is given for both Label Studio and")
    assert not (tmp_path / "label-studio").exists()
    assert not (tmp_path / "captioner.db").exists()


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """The data folder of an `up` that runs with `--images` and `--retrain-every 8`."""
    images = tmp_path / "photos"
    images.mkdir()
    data_dir = tmp_path / "data"
    asked = Up(settings(data_dir, CAPTIONER_RETRAIN_EVERY="8"), images, None, 8080)._asked
    (data_dir / "run").mkdir(parents=True)
    state.save(data_dir, {"pid": os.getpid(), "backend_url": "http://127.0.0.1:9090", "asked": asked})
    return data_dir


@pytest.mark.parametrize(
    ("flags", "other"),
    [
        ([], None),
        (["--retrain-every", "8"], None),
        (["--images", "photos"], None),
        (["--images", "."], "--images"),
        (["--retrain-every", "9"], "CAPTIONER_RETRAIN_EVERY"),
        (["--label-studio-port", "8081", "--device", "cpu"], "CAPTIONER_DEVICE, --label-studio-port"),
    ],
    ids=str,
)
def test_what_a_running_one_was_not_asked_for_is_refused(
    running: Path, flags: list[str], other: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(running.parent)
    with filelock.FileLock(running / "run" / "up.lock"):
        result = up(running, *flags)
    assert result.exit_code == (1 if other else 0), result.output
    if other:
        assert f"other values of {other}: stop it first" in result.output
    else:
        assert "Already running" in result.output


@pytest.mark.parametrize(("starter", "drafts"), [(True, {7: "starter-1"}), (False, {})])
def test_a_project_of_photos_is_drafted_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter: bool, drafts: dict[int, str]
) -> None:
    def promote(registry: Registry, project_id: int, data_dir: Path) -> None:
        registry.register(ModelVersion("starter-1", data_dir))
        registry.promote(project_id, "starter-1", reason="it comes with the captioner", by="up")

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_bytes(picture())
    found: dict[int, str] = {}
    configured = settings(tmp_path / "data")
    store = Store(configured.database_url)
    store.migrate()
    loop = Up(configured, tmp_path / "photos", None, 8080, starter=starter)
    registry = Registry(store)
    monkeypatch.setattr("backend.up.first_model.promote_bundled", promote)
    monkeypatch.setattr("backend.up.project.open_project", lambda *_: 7)
    monkeypatch.setattr("backend.up.project.connect_project", lambda *_: found.update(registry.champions()))
    monkeypatch.setattr(loop, "_await_champion", lambda *_: None)
    assert loop._first_version(registry) is None, "no captioner of scenes is trained for photos"
    assert loop._open_project(store, registry, None)["project"] == 7
    assert registry.champions() == found == drafts, "before Label Studio asks for the first draft"


def test_processes_start_so_that_the_first_draft_comes_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    loop = Up(settings(tmp_path), None, None, None)

    def add(child: Child) -> SimpleNamespace:
        steps.append(child.name)
        return SimpleNamespace(await_ready=lambda *_: None)

    def first_version(_: Registry) -> str:
        steps.append("the checkpoint is tried")
        return "mine"

    monkeypatch.setattr(loop, "_add", add)
    monkeypatch.setattr(loop, "_start_redis", lambda: steps.append("Redis"))
    monkeypatch.setattr(loop, "_check_ports", lambda: None)
    monkeypatch.setattr(loop, "_first_version", first_version)
    monkeypatch.setattr("backend.up.first_model.promote", lambda *_: steps.append("it is promoted"))
    monkeypatch.setattr(loop, "_await_champion", lambda *_: steps.append("it serves"))
    loop._start()
    assert steps == [
        *("Redis", "The ML backend"),  # which imports torch meanwhile
        *("the checkpoint is tried", "it is promoted", "it serves"),
        "The worker",
    ]


def test_a_damaged_account_is_one_sentence(tmp_path: Path) -> None:
    made = login(tmp_path)
    assert login(tmp_path) == made
    (tmp_path / "label-studio" / "login.json").write_text("")
    with pytest.raises(CaptionerError, match=r"login\.json is damaged"):
        login(tmp_path)


def test_the_token_is_the_one_label_studio_has(tmp_path: Path) -> None:
    made = login(tmp_path)
    with sqlite3.connect(tmp_path / "label-studio" / "label_studio.sqlite3") as connection:
        connection.execute("CREATE TABLE htx_user (id INTEGER, email TEXT)")
        connection.execute("CREATE TABLE authtoken_token (key TEXT, user_id INTEGER)")
        connection.execute("INSERT INTO htx_user VALUES (4, 'another@example.com'), (5, ?)", (made.email,))
        connection.commit()
        assert login(tmp_path).token == made.token
        connection.execute("INSERT INTO authtoken_token VALUES ('b', 4), ('a', 5)")
    assert login(tmp_path).token == "a"
    assert json.loads((tmp_path / "label-studio" / "login.json").read_text())["token"] == made.token


def test_the_banner_says_where_the_status_page_is(tmp_path: Path) -> None:
    assert "http://127.0.0.1:9 (its status page, in a browser)" in state.banner(
        {"backend_url": "http://127.0.0.1:9"}, tmp_path
    )


def test_the_command_for_status_is_the_one_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "captioner"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.argv", [str(program), "up"])
    folder = tmp_path / "my data"
    monkeypatch.setenv("PATH", str(program.parent))
    assert f"  status        captioner status --data-dir '{folder}'\n" in state.banner({"backend_url": "x"}, folder)
    monkeypatch.setenv("PATH", "/nowhere")
    assert f"  status        {program} status --data-dir '{folder}'\n" in state.banner({"backend_url": "x"}, folder)


@pytest.mark.parametrize("content", ["", '{"pid": ', "5", "null", '["pid"]', '{"pid": "x"}', '{"pid": null}'])
def test_a_damaged_note_of_a_running_up_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "up.json").write_text(content)
    assert state.running(tmp_path) is None
    assert state.forget(tmp_path), "the next one knows that this one was killed"
