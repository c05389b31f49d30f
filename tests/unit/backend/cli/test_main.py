"""The command line itself: help, one-line errors, and what importing it costs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from backend.cli.main import SECTIONS, main
from backend.corrections.reconcile import Reconciliation
from backend.domain.errors import SettingsError
from backend.label_studio.client import LabelStudio
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from backend.system import device
from backend.system.ports import free_port
from tests.factories import correction, saved, settings
from tests.fakes import Answer, host

COMMANDS = sorted(main.commands)


def test_the_commands_promised_are_there() -> None:
    promised = {"up", "serve", "worker", "connect", "train", "evaluate", "caption"}
    assert promised | {"versions", "promote", "rollback", "status"} <= set(COMMANDS)


def test_the_help_lists_commands_in_groups_with_a_whole_sentence_each() -> None:
    printed = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    assert max(map(len, printed.splitlines())) <= 80
    groups = [line for line in printed.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == ["Options:", *(f"{title}:" for title in SECTIONS)]
    listed = re.findall(r"^  ([a-z][a-z-]+) +(.+)$", printed.partition("Options:")[2], re.M)
    assert [name for name, _ in listed] == [command.name for section in SECTIONS.values() for command in section]
    for name, sentence in listed:
        assert sentence[0].isupper(), name
        assert sentence.endswith("."), f"the help of {name} is cut off: {sentence}"
        assert not sentence.endswith("..."), f"the help of {name} is cut off: {sentence}"
    for group in ("versions", "quarantine"):
        printed = CliRunner().invoke(main, [group, "--help"], terminal_width=80).output
        assert "..." not in printed.partition("Commands:")[2], group


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_carries_an_example(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"captioner {command}" in result.output.split("Example")[1]
    assert "Undefined" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--port", "no"],
        ["up", "--images", "/no/such/folder"],
        ["up", "--checkpoint", "/no/such/checkpoint"],
        ["up", "--no-starter"],
        ["serve", "--device", "tpu"],
        ["status", "--database-url", "nonsense"],
        ["status", "--database-url", "foo://x"],
        ["status", "--database-url", "postgresql+psycopg://ann@127.0.0.1:1/captioner"],
        ["versions", "--data-dir", "/proc/nowhere"],
        ["connect", "--project", "1", "--label-studio-url", "http://127.0.0.1:9", "--api-key", "ключ"],
        ["worker", "--redis-url", "redis://127.0.0.1:1/0"],
        ["promote", "no-such-version"],
        ["rollback", "--project", "77"],
        ["connect", "--project", "1"],
        ["connect", "--project", "1", "--label-studio-url", "http://127.0.0.1:9", "--api-key", "x" * 40],
        ["evaluate", "/no/such/checkpoint", "--manifest", "/no/such/manifest"],
        ["caption", "/no/such/checkpoint", "photo.jpg"],
        ["train", "--dataset", "flickr8k", "--data-dir", "/no/such/folder", "--out", "x"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_input_is_one_clear_line(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert result.output.strip().splitlines()[-1].startswith("Error: ")


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What servers were begun, in place of beginning them."""
    servers: list[str] = []
    monkeypatch.setattr("backend.web.server.serve", lambda *_: servers.append("serve"))
    monkeypatch.setattr("backend.queue.Queue.ping", lambda *_: servers.append("worker"))
    monkeypatch.setattr("backend.queue.Queue.work", lambda *_, **__: None)
    monkeypatch.setattr("backend.up.up.Up._start_label_studio", lambda *_: servers.append("up"))
    monkeypatch.setattr("backend.up.up.Up._start_redis", lambda *_: sys.exit("Redis was begun"))
    return servers


def test_a_taken_port_is_told_before_the_server_begins(tmp_path: Path, begun: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["serve", "--data-dir", str(tmp_path), "--port", port])
    assert result.output == f"Error: Port {port} is taken by another program: choose another with --port.\n"
    assert (result.exit_code, begun) == (1, [])


@pytest.mark.parametrize("command", ["serve", "up"])
def test_no_server_begins_where_other_machines_would_be_let_in_unasked(
    tmp_path: Path, begun: list[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("backend.system.ports.check", lambda *_, **__: sys.exit("The port was checked"))
    monkeypatch.setattr("backend.up.up.check", lambda *_, **__: sys.exit("The port was checked"))
    asked = [command, "--data-dir", str(tmp_path)]
    for public in ("0.0.0.0", "::", "10.0.0.5", "nowhere.invalid"):
        result = CliRunner().invoke(main, [*asked, "--host", public])
        assert result.output.startswith(f"Error: The ML backend would listen on {public}, where other machines")
        assert "set BASIC_AUTH_USER and BASIC_AUTH_PASS, or CAPTIONER_WITHOUT_PASSWORD=on" in result.output
        assert (result.exit_code, begun) == (1, [])
    open_to_all = [["--host", "127.0.0.1"], ["--host", "localhost"], ["--host", "::1"]]
    open_to_all.append(["--host", "0.0.0.0", "--without-password", "on"])
    open_to_all.append(["--host", "0.0.0.0", "--basic-auth-user", "a", "--basic-auth-pass", "b"])
    (tmp_path / "tokens").touch()
    open_to_all.append(["--host", "0.0.0.0", "--tokens-file", str(tmp_path / "tokens")])
    for flags in open_to_all:
        result = CliRunner().invoke(main, [*asked, *flags])
        assert str(result.exception) == "The port was checked", result.output
    missing = CliRunner().invoke(main, [*asked, "--tokens-file", str(tmp_path / "none")])
    assert missing.output.startswith(f"Error: CAPTIONER_TOKENS_FILE='{tmp_path / 'none'}' cannot be read: No such file")


def test_a_folder_without_photos_is_told_before_anything_begins(tmp_path: Path, begun: list[str]) -> None:
    (tmp_path / "photos").mkdir()
    ports = ["--port", str(free_port()), "--label-studio-port", str(free_port())]
    asked = ["--images", str(tmp_path / "photos"), "--data-dir", str(tmp_path / "data"), *ports]
    result = CliRunner().invoke(main, ["up", *asked])
    assert result.output.startswith(f"Error: The folder {tmp_path / 'photos'} has no photos (")
    assert (result.exit_code, begun) == (1, [])


def test_a_database_that_cannot_be_opened_is_told_before_the_server_begins(tmp_path: Path, begun: list[str]) -> None:
    asked = ["--data-dir", str(tmp_path), "--port", str(free_port()), "--database-url", "foo://x"]
    result = CliRunner().invoke(main, ["serve", *asked])
    assert result.output.startswith("Error: The database foo://x cannot be opened: ")
    assert (result.exit_code, begun) == (1, [])


def test_a_device_that_is_not_there_is_told_before_anything_begins(
    tmp_path: Path, begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise SettingsError(f"There is no {name}.")

    monkeypatch.setattr(device, "check", absent)
    monkeypatch.setenv("CAPTIONER_DEVICE", "cuda")
    ports = ["--port", str(free_port())]
    for command, asked in (("serve", ports), ("worker", []), ("up", [*ports, "--no-label-studio"])):
        result = CliRunner().invoke(main, [command, "--data-dir", str(tmp_path), *asked])
        assert (result.exit_code, result.output, begun) == (1, "Error: There is no cuda.\n", [])


@pytest.mark.slow
def test_a_device_that_is_not_there_is_named_with_its_setting() -> None:
    device.check("auto")
    with pytest.raises(
        SettingsError, match=r"^CAPTIONER_DEVICE=cuda:99 \(--device\) cannot be used: The device cuda:99 is"
    ):
        device.check("cuda:99")


@pytest.mark.parametrize("starter", [True, False])
def test_a_project_is_drafted_by_the_starter_as_soon_as_it_is_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, starter: bool
) -> None:
    drafting: list[dict[int, str]] = []

    def promote(registry: Registry, project_id: int, data_dir: Path) -> str:
        registry.register(ModelVersion("starter-1", data_dir))
        registry.promote(project_id, "starter-1", reason="it comes with the captioner", by="up")
        return "starter-1"

    monkeypatch.setattr("backend.up.first_model.promote_bundled", promote)
    monkeypatch.setattr("backend.label_studio.connect.connect", lambda *_: SimpleNamespace(report=(), problems=()))

    def compare(project_id: int, client: LabelStudio, store: Store) -> Reconciliation:
        drafting.append(Registry(store).champions())
        return Reconciliation(project_id, client, store)

    monkeypatch.setattr("backend.corrections.reconcile.reconcile", compare)
    asked = ["--label-studio-url", "http://127.0.0.1:9", "--api-key", "x" * 40, "--data-dir", str(tmp_path)]
    result = CliRunner().invoke(main, ["connect", "--project", "3", *asked, *([] if starter else ["--no-starter"])])
    assert result.exit_code == 0, result.output
    assert drafting == [{3: "starter-1"} if starter else {}], "the captions it has already may start a retrain at once"
    assert ("starter-1, which comes with the captioner, drafts until" in result.output) == starter


def test_promote_for_project_0_is_for_every_project_without_its_own(tmp_path: Path) -> None:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    Registry(store).register(ModelVersion("p1-v1", tmp_path, project_id=1))
    result = CliRunner().invoke(main, ["promote", "p1-v1", "--project", "0", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "'p1-v1' was trained for project 1 and cannot serve" in result.output
    assert Registry(store).champions() == {}


def test_a_rollback_to_nothing_is_asked_for_and_names_the_way_back(tmp_path: Path) -> None:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    registry = Registry(store)
    for version in ("p1-v1", "p1-v2"):
        registry.register(ModelVersion(version, tmp_path, project_id=1))
        registry.promote(1, version, reason="better", by="gate")
    folder = ["--data-dir", str(tmp_path)]

    def rollback(*flags: str, answer: str = "") -> str:
        result = CliRunner().invoke(main, ["rollback", "--project", "1", *folder, *flags], input=answer)
        return result.output if result.exit_code == 0 else f"refused: {result.output}"

    told = rollback()
    assert "p1-v1 serves project 1 again." in told
    assert f"`captioner promote p1-v2 --project 1 --data-dir {tmp_path}` lets p1-v2 serve again." in told
    for answer in ("", "n\n"):
        told = rollback(answer=answer)
        assert told.startswith("refused: Nothing served project 1 before p1-v1: ")
        assert registry.champions() == {1: "p1-v1"}
    store.begin_refresh(1, wanted="stored")
    for flags, answer in [((), "y\n"), (("--yes",), "")]:
        told = rollback(*flags, answer=answer)
        assert "Nothing serves project 1 now." in told
        assert registry.champions() == {}
        assert "None" not in CliRunner().invoke(main, ["status", *folder]).output
        assert f"`captioner promote p1-v1 --project 1 --data-dir {tmp_path}`" in told
        promote = ["promote", "p1-v1", "--project", "1", *folder]
        assert CliRunner().invoke(main, promote).exit_code == 0
        assert registry.champions() == {1: "p1-v1"}


@pytest.mark.parametrize(
    "arguments",
    [
        *("status", "status --json", "versions", "quarantine", "train-status", "rollback --project 1", "promote p1-v1"),
        *("refresh --project 1", "train-cancel --project 1", "export --project 1 --out pairs.jsonl"),
    ],
)
def test_a_folder_without_data_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments.split())
    assert result.exit_code == 1
    assert result.stderr.startswith(
        f"Error: There is no data in {tmp_path / 'data'}: name the folder of your captioner"
    )
    assert list(tmp_path.iterdir()) == []


def test_status_takes_no_other_captioner_for_its_own(tmp_path: Path) -> None:
    """Two of them on one machine listen on the same port by default, one after the other."""
    store, other = (Store(settings(tmp_path / name).database_url) for name in ("mine", "other"))
    store.migrate()
    other.migrate()
    store.record(saved(correction(1)))
    Registry(store).register(ModelVersion("p1-v1", tmp_path, project_id=1))
    Registry(store).promote(1, "p1-v1", reason="better", by="gate")
    with host() as backend:
        environ = {"CAPTIONER_PORT": str(backend.port), "REDIS_URL": "redis://127.0.0.1:1/0"}

        def status(of: Store) -> str:
            answer = {"serving": {"1": "p1-v9"}, "refused": {}, "database": of.identity}
            backend.answers["/serving"] = Answer(body=json.dumps(answer).encode())
            return CliRunner(env=environ).invoke(main, ["status", "--data-dir", str(tmp_path / "mine")]).output

        assert f"ML backend   {backend.url} serves\n" in status(store)
        told = status(other)
    assert f"ML backend   {backend.url} serves other data\n" in told
    assert "p1-v9" not in told
    assert "Redis cannot be reached (connecting to 127.0.0.1:1. Connection refused); work stays" in told


@pytest.mark.parametrize("command", ["up", "serve", "worker"])
def test_what_a_command_uses_can_be_said_with_a_flag(command: str) -> None:
    flags = {option for parameter in main.commands[command].params for option in parameter.opts}
    assert flags >= {"--data-dir", "--redis-url", "--database-url", "--image-hosts", "--api-key", "--device"}
    assert ({"--host", "--basic-auth-user", "--basic-auth-pass", "--web-workers"} <= flags) == (command != "worker")
    assert ({"--gate-margin", "--gate-floor", "--encoder", "--encoder-weights"} <= flags) == (command != "serve")


def test_the_command_line_starts_without_torch_or_flask() -> None:
    code = "import sys, backend.cli.main; print({'torch', 'flask', 'nltk', 'sqlalchemy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.slow
def test_the_worker_parent_never_imports_torch() -> None:
    code = "import sys, backend.queue; print({'torch', 'torchvision'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
