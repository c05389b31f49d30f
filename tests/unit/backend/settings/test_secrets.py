"""What no log may show."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backend.cli.options import settings_from
from backend.domain.errors import SettingsError
from backend.settings import Settings


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("postgresql+psycopg://ann:p[w@db/captioner", "p[w"),
        ("postgresql+psycopg://ann:p/w#@db:5432/captioner", "p/w#"),
        ("postgresql+psycopg://ann:p%2Fw@db/captioner", "p/w"),
        ("sqlite:////data/captioner.db", None),
    ],
)
def test_the_password_of_a_database_is_a_secret_whatever_it_is_made_of(url: str, password: str | None) -> None:
    secrets = Settings.from_env({"DATABASE_URL": url}).secrets
    assert (password in secrets) if password else not secrets


SECRETS = {
    "LABEL_STUDIO_API_KEY": "token",
    "BASIC_AUTH_PASS": "pass word",
    "REDIS_URL": "redis://:word@redis:6379/0",
    "DATABASE_URL": "postgresql+psycopg://ann:word@db/captioner",
    "MLFLOW_TRACKING_URI": "http://ann:word@mlflow:5000",
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Variables that name files with the secrets, as tools write them: with a line break at the end."""
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(f"{secret}\n")
    return {f"{name}_FILE": str(tmp_path / name) for name in SECRETS}


def test_every_secret_may_lie_in_a_file(files: dict[str, str]) -> None:
    read = Settings.from_env({**files, "BASIC_AUTH_USER": "ann"})
    assert read == Settings.from_env({**SECRETS, "BASIC_AUTH_USER": "ann"})
    assert "word" in read.secrets


def test_a_value_wins_over_a_file_as_in_a_child_process(files: dict[str, str]) -> None:
    assert Settings.from_env({**files, "BASIC_AUTH_USER": "ann", "REDIS_URL": "redis://other"}).redis_url == (
        "redis://other"
    )


def test_files_that_are_missing_empty_or_no_text_are_named_at_once(files: dict[str, str]) -> None:
    missing, empty, binary = list(files)[:3]
    Path(files[missing]).unlink()
    Path(files[empty]).write_text(" \n")
    Path(files[binary]).write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**files, "BASIC_AUTH_USER": "ann"})
    assert f"{missing}='{files[missing]}' cannot be read: No such file or directory" in str(caught.value)
    assert f"{empty}='{files[empty]}' is empty" in str(caught.value)
    assert f"{binary}='{files[binary]}' cannot be read: it is no text" in str(caught.value)
    assert str(caught.value).count(";") == 2, "what is wrong with a file is told once"


def test_a_command_reads_the_file_and_not_what_it_would_guess(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", {**os.environ, "REDIS_URL_FILE": files["REDIS_URL_FILE"]})
    assert settings_from({"data_dir": str(tmp_path)}).redis_url == SECRETS["REDIS_URL"]
