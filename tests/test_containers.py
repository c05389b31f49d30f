"""The Dockerfile and docker-compose.yml, without a container engine."""

from __future__ import annotations

import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from backend.cli.main import main
from backend.settings import Settings
from tests.compose import ROOT, TEXT, compose
from tests.dockerfile import chain, stages

SERVICES = compose()["services"]
OURS = ("backend", "worker", "backend-gpu", "worker-gpu")
SECRET = re.compile(r"/run/secrets/(\w+)")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.-]+)?")
VARIABLES = {str(field.alias) for field in Settings.model_fields.values()}
VARIABLES |= {f"{field.alias}_FILE" for field in Settings.model_fields.values() if not field.repr}


@pytest.mark.parametrize("profile", ["cpu", "gpu", "*"])
def test_docker_compose_takes_the_file(profile: str) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("Docker Compose is not installed")
    argv = ["docker", "compose", "--file", ROOT / "docker-compose.yml", "--profile", profile, "config", "--quiet"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_variable_that_is_set_or_passed_on_is_a_setting() -> None:
    given = {name for service in OURS for name in SERVICES[service]["environment"]}
    assert given - VARIABLES == set()
    assert set(re.findall(r"\$\{(\w+)", TEXT)) - VARIABLES == set()
    for stage in stages().values():
        named = {word.partition("=")[0] for line in stage.of("ENV") for word in shlex.split(line)}
        assert {name for name in named if name.startswith("CAPTIONER_")} - VARIABLES == set()


@pytest.mark.parametrize("service", OURS)
def test_the_command_of_a_service_is_one_of_the_captioners(service: str) -> None:
    program, name, *arguments = SERVICES[service].get("command") or stages()[""].last("CMD")
    assert program == "captioner"
    assert name == service.removesuffix("-gpu").replace("backend", "serve")
    command = main.commands[name]
    command.parse_args(click.Context(command), arguments)


def test_secrets_come_from_the_files_that_make_writes(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    argv = ["make", "--no-print-directory", "secrets", f"SECRETS={folder}"]
    subprocess.run(argv, cwd=ROOT, check=True)
    written = {file.name: file.read_text() for file in folder.iterdir()}
    assert written.keys() == compose()["secrets"].keys()
    for name, secret in compose()["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    for service in SERVICES.values():
        assert set(SECRET.findall(str(service))) <= set(service.get("secrets", ()))

    assert written["postgres_password"] in written["database_url"]
    assert written["redis_password"] in written["redis_url"]
    assert re.fullmatch(r"[0-9a-f]{40}", written["label_studio_token"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    (folder / "redis_password").write_text("mine")
    subprocess.run(argv, cwd=ROOT, check=True)
    again = {file.name: file.read_text() for file in folder.iterdir()}
    assert again == written | {"redis_password": "mine", "redis_url": "redis://:mine@redis:6379/0"}


def test_no_secret_stands_in_the_file_or_in_an_image() -> None:
    assert "secrets" in (ROOT / ".dockerignore").read_text().split()
    assert "/secrets/" in (ROOT / ".gitignore").read_text().split()
    names = {name for service in SERVICES.values() for name in service.get("environment", ())}
    assert {name for name in names if re.search(r"(PASS|PASSWORD|USER_TOKEN|KEY)$", name)} == set()


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_pinned_confined_and_watched(service: str) -> None:
    given = SERVICES[service]
    assert "build" in given or PINNED.fullmatch(given["image"])
    assert given["restart"] == "unless-stopped"
    assert given["cap_drop"] == ["ALL"]
    assert given["security_opt"] == ["no-new-privileges:true"]
    assert given.get("read_only") or service == "label-studio"  # it writes beside its own code
    assert all(port.startswith("127.0.0.1:") for port in given.get("ports", ()))
    volumes = {volume.partition(":")[0] for volume in given.get("volumes", ())}
    assert volumes <= compose()["volumes"].keys()
    assert "healthcheck" in given or stages()[""].of("HEALTHCHECK")


def test_label_studio_is_the_version_that_is_tested_and_finds_the_backend() -> None:
    version = (ROOT / "backend" / "up" / "label_studio_version.txt").read_text().strip()
    assert SERVICES["label-studio"]["image"].endswith(f":{version}")
    for service in ("backend", "backend-gpu"):
        [alias] = SERVICES[service]["networks"]["default"]["aliases"]
        assert "." in alias, "Label Studio saves no webhook for a host without a dot"
        assert f"http://{alias}:9090" in TEXT
    [scraped] = yaml.safe_load(compose()["configs"]["prometheus"]["content"])["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"{alias}:9090"]}]
    assert scraped["basic_auth"]["username"] == SERVICES["backend"]["environment"]["BASIC_AUTH_USER"]


@pytest.mark.parametrize("name", ["", "mlflow"])
def test_an_image_runs_as_a_user_of_its_own_on_a_pinned_base(name: str) -> None:
    lowest, *_, image = chain(name)
    assert PINNED.fullmatch(lowest.base)
    assert image.of("USER") == ["captioner"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_each_device_has_its_packages(device: str) -> None:
    commands = " ".join(command for stage in chain("packages", DEVICE=device) for command in stage.of("RUN"))
    assert ("--torch-backend=cpu" in commands) == (device == "cpu")
    assert "-c requirements.lock -r pyproject.toml" in commands
    for service in ("backend", "worker"):
        built = SERVICES[service + ("" if device == "cpu" else "-gpu")]
        assert (built["build"]["args"], built["image"]) == ({"DEVICE": device}, f"label-studio-captioner:{device}")
