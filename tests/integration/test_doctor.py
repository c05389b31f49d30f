"""`captioner doctor`: faults are planted one at a time in a healthy installation, and each is named with its remedy."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import sqlalchemy as sa
from click.testing import CliRunner, Result
from rq import Worker
from rq.serializers import JSONSerializer
from safetensors.numpy import save_file

from backend.cli.main import main
from backend.domain.errors import SettingsError
from backend.label_studio.client import LabelStudio
from backend.label_studio.connect import connect
from backend.queue import QUEUES
from backend.reports.doctor import checks
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from backend.system import device
from labeling_config import shipped
from tests.factories import settings
from tests.fakes import Answer, Host, host
from tests.unit.backend.label_studio.conftest import LEGACY, PERSONAL, FakeLabelStudio, running

SECRETS = {"LABEL_STUDIO_API_KEY": PERSONAL, "BASIC_AUTH_PASS": "open sesame"}
CERTIFICATE = Path(__file__).parents[1] / "assets" / "loopback.pem"
GIGABYTE = 10**9


@dataclass
class Installation:
    """A healthy one: everything is there, runs and is connected, on this machine."""

    folder: Path
    redis_url: str
    studio: FakeLabelStudio
    backend: Host
    monkeypatch: pytest.MonkeyPatch
    stack: ExitStack
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environ |= {"REDIS_URL": self.redis_url, "LABEL_STUDIO_URL": self.studio.url, "BASIC_AUTH_USER": "ann"}
        self.environ |= {"CAPTIONER_PORT": str(self.backend.port), "CAPTIONER_DEVICE": "cpu", **SECRETS}
        self.store = Store(settings(self.folder).database_url)
        self.store.migrate()
        self.store.save_project(3, shipped("caption"))
        self.checkpoint = whole_checkpoint(self.folder / "models" / "p3-v1")
        registry = Registry(self.store)
        registry.register(ModelVersion("p3-v1", self.checkpoint, project_id=3))
        registry.promote(3, "p3-v1", reason="better", by="gate")
        self.answer("/health", {"status": "UP", "model_class": "CaptionerModel"})
        self.serving()
        connect(LabelStudio(self.studio.url, PERSONAL), 3, self.backend.url, ("ann", "open sesame"))
        self.worker(os.getpid())

    @property
    def project(self) -> dict[str, Any]:
        return self.studio.projects[3]

    def answer(self, path: str, body: Any, status: int = 200) -> None:
        self.backend.answers[path] = Answer(status, json.dumps(body).encode())

    def serving(self, **other: Any) -> None:
        self.answer("/serving", {"serving": {"3": "p3-v1"}, "refused": {}, "database": self.store.identity, **other})

    def worker(self, pid: int) -> None:
        """The only worker that Redis knows has this number."""
        connection = redis.Redis.from_url(self.redis_url)
        connection.flushall()
        worker = Worker([*QUEUES], connection=connection, serializer=JSONSerializer)
        worker.pid = pid
        worker.register_birth()

    def sql(self, statement: str) -> None:
        with self.store.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def moved(self, url: str, state: str = "CO") -> None:
        """Label Studio asks for the backend at this address."""
        self.studio.backends[0] |= {"url": url, "state": state}
        self.studio.hooks[0]["url"] = f"{url}/webhook"

    def redis_says(self, line: bytes) -> None:
        """What listens at the address of Redis answers so, whatever it is asked."""
        server = self.stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(line * 9)

        threading.Thread(target=serve, daemon=True).start()
        self.environ["REDIS_URL"] = f"redis://ann:hush@127.0.0.1:{server.getsockname()[1]}/0"

    def doctor(self, *flags: str) -> Result:
        environ = {**dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), None), **self.environ}
        result = CliRunner(env=environ).invoke(main, ["doctor", "--data-dir", str(self.folder), *flags])
        assert isinstance(result.exception, SystemExit | None), result.exception
        for secret in (*SECRETS.values(), "hush"):
            assert secret not in result.output
        return result


def whole_checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    config = {"format": 3} | {name: {} for name in ("encoder", "decoder", "transform", "decoding", "style")}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocabulary.json").write_text("[]")
    save_file({"weight": np.zeros(64, np.float32)}, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n")
    return folder


@pytest.fixture
def installation(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    monkeypatch.setattr("training.captioner.bundled.STARTER", whole_checkpoint(tmp_path / "starter"))
    with ExitStack() as stack:
        studio, backend = stack.enter_context(running()), stack.enter_context(host())
        yield Installation(tmp_path / "data", redis_url, studio, backend, monkeypatch, stack)


def test_a_healthy_installation_has_no_finding(installation: Installation) -> None:
    result = installation.doctor()
    assert "→" not in result.output
    assert result.output.splitlines()[-1] == "Nothing is wrong."
    assert result.exit_code == 0
    told = json.loads(installation.doctor("--json").output)
    assert (told["failed"], told["left_out"]) == (False, [])
    assert [check["name"] for check in told["checks"]] == [
        *("disk", "device", "certificates", "database", "weights", "redis", "label studio"),
        *("backend", "worker", "champions", "project 3"),
    ]


Plant = Callable[[Installation], Any]


def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def cut_short(here: Installation) -> None:
    (here.checkpoint / "SHA256SUMS").unlink()
    weights = here.checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])


def another_file(here: Installation) -> None:
    save_file({"weight": np.ones(64, np.float32)}, here.checkpoint / "model.safetensors")


def no_device(here: Installation, name: str, built_in: bool = False) -> None:
    def absent(device: str, timeout_seconds: float) -> None:
        raise SettingsError(f"CAPTIONER_DEVICE={device} (--device) cannot be used: It is not here; use cpu or auto.")

    here.monkeypatch.setattr(device, "check", absent)
    here.monkeypatch.setattr(device, "has_gpu", lambda: built_in)
    here.environ["CAPTIONER_DEVICE"] = name


def room(here: Installation, free: float) -> None:
    usage = shutil.disk_usage(here.folder)._replace(free=int(free))
    here.monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def read_only(here: Installation) -> None:
    def refused(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    here.monkeypatch.setattr("tempfile.TemporaryFile", refused)


def untrusted(here: Installation) -> None:
    here.environ["LABEL_STUDIO_URL"] = here.stack.enter_context(host(CERTIFICATE)).url


def another_first(here: Installation) -> None:
    here.studio.backends.insert(0, {"id": 0, "project": 3, "title": "segmenter", "url": "http://10.0.0.9:1"})


def without_a_dot(here: Installation) -> None:
    here.moved("http://ml-backend:9090")
    here.studio.hooks.clear()


FAULTS: dict[str, tuple[Plant, str, str]] = {
    "Redis is away": (
        lambda here: here.environ.update(REDIS_URL="redis://127.0.0.1:1/0"),
        "redis",
        "Start `captioner up --data-dir .*`, which runs one, or name a running one in REDIS_URL",
    ),
    "Redis wants another password": (
        lambda here: here.redis_says(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        "redis",
        "Put the user name and password of Redis into REDIS_URL",
    ),
    "the clock of Redis is wrong": (
        lambda here: here.monkeypatch.setattr("backend.queue.Queue.ahead_seconds", lambda _: -400.0),
        "redis",
        "set their clocks by NTP",
    ),
    "no worker": (lambda here: redis.Redis.from_url(here.redis_url).flushall(), "worker", "Start `captioner worker"),
    "a worker that was killed": (lambda here: here.worker(dead()), "worker", "Start `captioner worker"),
    "another data folder": (
        lambda here: shutil.rmtree(here.folder),
        "database",
        "Name the folder of your captioner with --data-dir",
    ),
    "a database that cannot be reached": (
        lambda here: here.environ.update(DATABASE_URL="postgresql+psycopg://ann:hush@127.0.0.1:1/captioner"),
        "database",
        "Check DATABASE_URL",
    ),
    "tables of an older release": (
        lambda here: here.sql("UPDATE alembic_version SET version_num = '0003'"),
        "database",
        "start it again .* migrates the tables",
    ),
    "tables of a newer release": (
        lambda here: here.sql("UPDATE alembic_version SET version_num = '9999'"),
        "database",
        "Install the release of the captioner that made them, or a newer one",
    ),
    "a checkpoint that is gone": (
        lambda here: shutil.rmtree(here.checkpoint),
        "champions",
        "`captioner rollback --project 3 ",
    ),
    "weights cut short": (cut_short, "champions", "Put the folder back from a backup"),
    "weights of another checkpoint": (another_file, "champions", "Put the folder back from a backup"),
    "no file with the encoder's weights": (
        lambda here: here.environ.update(CAPTIONER_ENCODER_WEIGHTS="/no/such/file.pth"),
        "weights",
        "Correct CAPTIONER_ENCODER_WEIGHTS",
    ),
    "no backend": (lambda here: here.environ.update(CAPTIONER_PORT="1"), "backend", "Start `captioner serve"),
    "another program at the port": (
        lambda here: here.answer("/health", {"status": "UP"}),
        "backend",
        "listen on another port: CAPTIONER_PORT",
    ),
    "a backend with another password": (
        lambda here: here.answer("/serving", {"error": "wrong"}, 401),
        "backend",
        "Set the BASIC_AUTH_USER and BASIC_AUTH_PASS",
    ),
    "a backend over other data": (
        lambda here: here.serving(database="file 1"),
        "backend",
        "Name its data with --data-dir or DATABASE_URL",
    ),
    "a champion that is not served": (
        lambda here: here.serving(refused={"3": "The model p3-v1 cannot be loaded: out of memory."}),
        "backend",
        "`captioner rollback --project 3 ",
    ),
    "Label Studio is away": (
        lambda here: here.environ.update(LABEL_STUDIO_URL="http://127.0.0.1:1"),
        "label studio",
        "Check LABEL_STUDIO_URL and that it is running",
    ),
    "another program at the address of Label Studio": (
        lambda here: here.studio.answers.update({("GET", "/api/projects"): (404, {"detail": "Not found."})}),
        "label studio",
        "Set LABEL_STUDIO_URL .* to the address of Label Studio alone",
    ),
    "Label Studio has moved": (
        lambda here: here.studio.answers.update({("GET", "/api/projects"): (302, {})}),
        "label studio",
        "Give its address alone, such as .*, as LABEL_STUDIO_URL",
    ),
    "a legacy token where they are off": (
        lambda here: (
            here.environ.update(LABEL_STUDIO_API_KEY=LEGACY),
            here.studio.refused.update({("GET", "/api/projects"): "legacy_tokens_off"}),
        ),
        "label studio",
        "Set LABEL_STUDIO_API_KEY to a personal access token .* or switch legacy tokens on",
    ),
    "a personal access token that was revoked": (
        lambda here: here.environ.update(LABEL_STUDIO_API_KEY=PERSONAL + "x"),
        "label studio",
        "Create a new one under Account & Settings and set LABEL_STUDIO_API_KEY",
    ),
    "a certificate that nobody trusts": (
        untrusted,
        "label studio",
        "Name a PEM file with the certificate of its authority in REQUESTS_CA_BUNDLE",
    ),
    "the clock of Label Studio is wrong": (
        lambda here: setattr(here.studio, "ahead_seconds", 400),
        "label studio",
        "set their clocks by NTP",
    ),
    "no room on the disk": (
        lambda here: room(here, 0.1 * GIGABYTE),
        "disk",
        "Make room there, lower CAPTIONER_IMAGES_GB",
    ),
    "a folder that may not be written in": (read_only, "disk", "Let the captioner's user write there"),
    "a device that is not there": (lambda here: no_device(here, "cuda:9"), "device", "set CAPTIONER_DEVICE=auto"),
    "a setting that does not exist": (
        lambda here: here.environ.update(CAPTIONER_GATE_MARGINS="1"),
        "settings",
        "Correct these variables",
    ),
    "no ML backend": (
        lambda here: here.studio.backends.clear(),
        "project 3",
        "Run `captioner connect --project 3 ",
    ),
    "another ML backend comes first": (another_first, "project 3", r"Remove it \(Settings > Model\) and connect again"),
    "private addresses are blocked for ML backends": (
        lambda here: here.studio.backends[0].update(state="DI"),
        "project 3",
        "start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false .*ML_BLOCK_LOCAL_IP=false",
    ),
    "private addresses are blocked for webhooks": (
        lambda here: here.studio.refused.update({("PATCH", "/api/webhooks/1"): "webhook_address_private_update"}),
        "project 3",
        "[Ss]tart Label Studio with USE_DEFAULT_BANNED_SUBNETS=false .*SSRF_PROTECTION_ENABLED=false",
    ),
    "a backend that listens on loopback for another machine": (
        lambda here: here.moved("http://8.8.8.8:9090", "DI"),
        "project 3",
        "set CAPTIONER_HOST=0.0.0.0",
    ),
    "a backend that fails": (
        lambda here: here.studio.backends[0].update(state="ER", error_message="500 Server Error"),
        "project 3",
        "Read the log of `captioner serve`",
    ),
    "an ML backend without credentials": (
        lambda here: here.studio.backends[0].update(basic_auth_user=""),
        "project 3",
        "Run `captioner connect --project 3 ",
    ),
    "no webhook": (lambda here: here.studio.hooks.clear(), "project 3", "Run `captioner connect --project 3 "),
    "a host without a dot": (without_a_dot, "project 3", "Give the captioner's IP address or a name with a dot"),
    "a webhook that is switched off": (
        lambda here: here.studio.hooks[0].update(is_active=False),
        "project 3",
        "Run `captioner connect --project 3 ",
    ),
    "a webhook without credentials": (
        lambda here: here.studio.hooks[0].update(headers={}),
        "project 3",
        "Run `captioner connect --project 3 ",
    ),
    "a labelling config without a caption box": (
        lambda here: here.project.update(label_config='<View><Image name="image" value="$image"/></View>'),
        "project 3",
        "Settings > Labeling Interface: add <TextArea",
    ),
    "prelabelling is off": (
        lambda here: here.project.update(show_collab_predictions=False),
        "project 3",
        "Run `captioner connect --project 3 ",
    ),
    "a project that shows another model": (
        lambda here: here.project.update(model_version="segmenter"),
        "project 3",
        "Run `captioner connect --project 3 ",
    ),
}
"""What is planted, the check that finds it, and what mends it."""

WARNINGS: dict[str, tuple[Plant, str, str]] = {
    "little room on the disk": (lambda here: room(here, 1.5 * GIGABYTE), "disk", "Make room there"),
    "a GPU that PyTorch cannot use": (lambda here: no_device(here, "auto", built_in=True), "device", "nvidia-smi"),
    "a file without certificates": (
        lambda here: here.environ.update(REQUESTS_CA_BUNDLE="/no/such/file.pem"),
        "certificates",
        "Name a PEM file .*, or unset the variable",
    ),
    "a damaged starter": (
        lambda here: (here.folder.parent / "starter" / "vocabulary.json").write_text("{"),
        "weights",
        "Install label-studio-captioner again",
    ),
    "no token": (
        lambda here: here.environ.update(LABEL_STUDIO_API_KEY=""),
        "label studio",
        "Set .* LABEL_STUDIO_API_KEY .* to a personal access token",
    ),
    "clocks a minute apart": (lambda here: setattr(here.studio, "ahead_seconds", -60), "label studio", "by NTP"),
    "a box that is not editable": (
        lambda here: here.project.update(label_config=shipped("caption").replace('editable="true"', "")),
        "project 3",
        'Labeling Interface: add editable="true"',
    ),
    "hints that are not completed": (
        lambda here: here.project.update(label_config=shipped("guided")),
        "project 3",
        "Run `captioner connect --project 3 ",
    ),
    "a project that was deleted": (lambda here: here.studio.projects.clear(), "project 3", "If it was deleted"),
    "no project": (lambda here: here.sql("DELETE FROM projects WHERE id = 3"), "projects", "Run `captioner connect"),
}
"""What keeps neither drafts nor corrections from flowing."""


@pytest.mark.parametrize("name", [*FAULTS, *WARNINGS])
def test_what_is_planted_is_found_with_its_remedy(installation: Installation, name: str) -> None:
    plant, check, remedy = {**FAULTS, **WARNINGS}[name]
    plant(installation)
    result = installation.doctor("--json")
    told = json.loads(result.output)
    found = [(each["name"], finding) for each in told["checks"] for finding in each["findings"]]
    assert [where for where, _ in found] == [check], found
    (finding,) = (finding for _, finding in found)
    assert re.search(remedy, finding["remedy"]), finding
    assert finding["problem"].endswith(".")
    assert finding["warning"] == (name in WARNINGS)
    assert (told["failed"], result.exit_code) == (name in FAULTS, int(name in FAULTS))


def test_the_way_to_connect_again_keeps_the_address_and_names_no_password(installation: Installation) -> None:
    installation.moved("http://ann:hush@10.0.0.5:9090")
    installation.studio.hooks.clear()
    told = installation.doctor().output
    assert "reports what is saved to http://10.0.0.5:9090/webhook: corrections do not arrive.\n" in told
    assert "→ Run `captioner connect --project 3 --backend-url http://10.0.0.5:9090 --data-dir " in told


def test_people_read_what_programs_read(installation: Installation) -> None:
    installation.environ["CAPTIONER_PORT"] = "1"
    installation.project.update(label_config=shipped("caption").replace('editable="true"', ""))
    told = installation.doctor()
    assert "✓ redis\n" in told.output
    assert "\n✗ backend       The ML backend does not run at http://127.0.0.1:1.\n" in told.output
    assert "\n                → Start `captioner serve --data-dir " in told.output
    assert "\n! project 3     The box 'caption' is not editable: a draft can only be deleted.\n" in told.output
    assert told.output.splitlines()[-1] == "1 fault, 1 warning."
    assert told.exit_code == 1


def test_one_project_is_checked_alone(installation: Installation) -> None:
    installation.store.save_project(4, shipped("caption"))
    assert installation.doctor("--project", "3").exit_code == 0
    assert "no project 4" in installation.doctor().output


def test_a_gpu_is_seen_without_its_driver(tmp_path: Path) -> None:
    for number, (vendor, kind) in enumerate([("0x10de", "0x040300"), ("0x8086", "0x030000")]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "vendor").write_text(f"{vendor}\n")
        (tmp_path / str(number) / "class").write_text(f"{kind}\n")
    assert not device.has_gpu(tmp_path)
    (tmp_path / "0" / "class").write_text("0x030200\n")
    assert device.has_gpu(tmp_path)


def test_a_device_that_does_not_answer_in_time_is_told() -> None:
    with pytest.raises(TimeoutError):
        device.check("cuda:0", timeout_seconds=0.01)


def test_nothing_hangs(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "SECONDS", 0.3)
    ended = threading.Event()

    def never(_: Any) -> Answer:
        ended.wait(20)
        return Answer()

    silent = installation.stack.enter_context(host())
    installation.stack.callback(ended.set)
    silent.answers["/api/token/refresh/"] = never
    installation.environ["LABEL_STUDIO_URL"] = silent.url
    told = installation.doctor().output
    assert "✗ label studio  The check had no answer within 0.3 s.\n" in told
    assert "→ Check LABEL_STUDIO_URL" in told
    assert "- projects      is not checked before what is above is mended\n" in told


def test_a_check_that_fails_in_another_way_is_a_finding(installation: Installation) -> None:
    def failing(*_: Any) -> Any:
        raise KeyError("PERSONAL " + PERSONAL)

    installation.monkeypatch.setattr("shutil.disk_usage", failing)
    result = installation.doctor()
    assert "✗ disk          The check failed (KeyError: 'PERSONAL (hidden)').\n" in result.output
    assert result.exit_code == 1


def test_doctor_makes_nothing_in_a_folder_without_data(tmp_path: Path) -> None:
    result = CliRunner(env={"CAPTIONER_DEVICE": "cpu"}).invoke(main, ["doctor", "--data-dir", str(tmp_path / "no")])
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])
