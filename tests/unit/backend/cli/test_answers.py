"""`--json`: one value on stdout with the keys that docs/commands.md promises, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import labeling_config
from backend.cli import drafts, selection
from backend.cli.main import main
from backend.corrections.reconcile import Reconciliation
from backend.store.registry import REJECTED, ModelVersion, Registry
from backend.store.store import Store
from tests.answers import answer, documented
from tests.factories import correction, draft, saved, settings
from tests.fakes import Answer, Host, host

WITHOUT = {"up", "serve", "worker", "completion"}
"""Commands that run until they are stopped, or print a script."""


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield " ".join([*words, name]), command
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))


def test_every_command_that_answers_has_it_and_its_keys_are_documented() -> None:
    have = {name for name, command in commands(main) for parameter in command.params if "--json" in parameter.opts}
    assert have == {name for name, _ in commands(main)} - WITHOUT == set(documented())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    store.save_project(1, labeling_config.shipped("caption"))
    store.add_drafts(1, [draft(1)])
    store.record(saved(correction(1)))
    registry = Registry(store)
    registry.register(ModelVersion("v1", tmp_path / "v1"))
    registry.register(ModelVersion("p1-v1", tmp_path / "p1-v1", 1, "v1", state=REJECTED))
    registry.promote(1, "v1", reason="for a test", by="test")
    registry.promote(1, "p1-v1", reason="for a test", by="test")
    return store


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        project = {"id": 1, "model_version": "captioner", "label_config": labeling_config.shipped("caption")}
        running.answers["/api/projects/1"] = Answer(body=json.dumps(project).encode())
        yield running


@pytest.fixture
def run(tmp_path: Path, store: Store, studio: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    def connect(*_: Any) -> Any:
        return SimpleNamespace(report=("The caption box is 'caption'.",), problems=())

    def compare(project: int, client: Any, store: Store) -> Reconciliation:
        return Reconciliation(project, client, store, first=True, tasks=1)

    for module in (drafts, selection):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=interrupt))
    monkeypatch.setattr("backend.label_studio.connect.connect", connect)
    monkeypatch.setattr("backend.corrections.reconcile.reconcile", compare)
    monkeypatch.setattr("backend.up.first_model.promote_bundled", lambda *_: "starter-1")
    monkeypatch.chdir(tmp_path)

    def call(line: str, **environ: str) -> Result:
        given = {"CAPTIONER_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:1/0"}
        given |= {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": "0" * 40}
        return CliRunner(env={**given, **environ}).invoke(main, line.split())

    return call


@pytest.mark.parametrize(
    "line",
    [
        *("status --json", "train-status --json", "train-cancel --project 1 --json", "report --project 1 --json"),
        *("versions --json", "versions show p1-v1 --json", "versions --json show p1-v1"),
        *("quarantine --json", "quarantine release p1-v1 --json", "quarantine drop p1-v1 --json"),
        *("promote p1-v1 --json", "rollback --project 1 --json"),
        *("mode --project 1 --json", "mode --project 1 stored --json"),
        *("refresh --project 1 --json", "refresh --project 1 --stop --json"),
        *("preannotate --project 1 --json", "preannotate --project 1 --stop --json"),
        "select --project 1 --count 5 --json",
        *("connect --project 1 --json", "reconcile --json"),
        "export --project 1 --out pairs.jsonl --json",
    ],
)
def test_a_command_answers_with_the_documented_keys(run: Callable[[str], Result], line: str) -> None:
    result = run(line)
    assert result.exit_code == 0, result.output
    words = [word for word in line.split() if not word.startswith("--")]
    both = " ".join(words[:2])
    answer(result, both if both in documented() else words[0])


def test_doctor_answers_with_its_findings(run: Callable[..., Result]) -> None:
    result = run("doctor --json", CAPTIONER_PORT="no")
    assert result.exit_code == 1
    assert answer(result, "doctor")["failed"] is True


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("versions show p1-v9 --json", 1),
        ("versions --json show p1-v9", 1),
        ("train-status --json --project one", 2),
        ("promote --project one --json p1-v1", 2),
        ("mode --project 7 --json", 1),
        ("export --project 1 --out - --json", 2),
        ("report --project 1 --out captioner.db/page.html --json", 1),
        ("no-such-command --json", 2),
    ],
)
def test_an_error_is_one_value_and_a_sentence(run: Callable[[str], Result], line: str, status: int) -> None:
    result = run(line)
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (status, f"Error: {error}")


def test_no_question_is_asked(run: Callable[[str], Result], store: Store) -> None:
    assert json.loads(run("rollback --project 1 --json").stdout)["version"] == "v1"
    refused = run("rollback --project 1 --json")
    assert "--yes rolls back all the same." in json.loads(refused.stdout)["error"]
    assert Registry(store).champions() == {1: "v1"}
    assert json.loads(run("rollback --project 1 --yes --json").stdout)["version"] is None
