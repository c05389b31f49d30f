"""`captioner preannotate` as a person uses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import labeling_config
from backend.cli import drafts as module
from backend.cli.main import main
from backend.store.drafts.refreshes import DRAFTING, EVERY, STORED, WAITING
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import settings
from tests.fakes import Answer, Host, host


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        project = {"id": 1, "model_version": "captioner", "label_config": labeling_config.shipped("caption")}
        running.answers["/api/projects/1"] = Answer(body=json.dumps(project).encode())
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    store.save_project(1, "<View/>")
    Registry(store).register(ModelVersion("v1", Path("checkpoint")))
    Registry(store).promote(1, "v1", reason="for a test", by="test")
    return store


@pytest.fixture
def preannotate(tmp_path: Path, studio: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command, with what happens while it shows the progress."""

    def run(*flags: str, meanwhile: Callable[[], object] = lambda: None, project: int = 1) -> Result:
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: meanwhile()))
        environ = {"CAPTIONER_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:1/0"}
        environ |= {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": "0" * 40}
        return CliRunner().invoke(main, ["preannotate", "--project", str(project), *flags], env=environ)

    return run


def interrupt() -> None:
    raise KeyboardInterrupt


def test_it_shows_the_progress_until_all_is_drafted(preannotate: Callable[..., Result], store: Store) -> None:
    seen: list[Any] = []

    def draft() -> None:
        seen.append(store.refresh_state(1))
        counts = {"checked": 10, "stored": 9, "failed": 1, "total": 10}
        store.order_refresh(1, version="v1", state=WAITING if len(seen) > 1 else DRAFTING, **counts)

    done = preannotate(meanwhile=draft)
    assert done.exit_code == 0, done.output
    assert "Redis cannot be reached" in done.stderr, "the watcher queues it again later"
    assert done.stdout == (
        "Project 1: 9 drafts stored by v1, 1 failed (`captioner status` says why); 10 unlabelled tasks checked.\n"
    )
    assert (seen[0].wanted, seen[0].per_minute, seen[0].version) == (EVERY, None, None)


def test_ctrl_c_ends_only_the_showing_and_the_next_call_continues(
    preannotate: Callable[..., Result], store: Store
) -> None:
    done = preannotate("--stored", "--per-minute", "60", meanwhile=interrupt)
    assert done.exit_code == 0
    assert "Project 1 is drafted in the background; `captioner status` shows the progress and " in done.stdout
    assert "`captioner preannotate --project 1 --stop` stops it." in done.stdout
    state = store.refresh_state(1)
    assert (state.wanted, state.per_minute, state.stopped) == (STORED, 60, False)
    store.order_refresh(1, version="v1", state=DRAFTING, checked=5, checked_to=5)
    assert preannotate("--stop").stdout == (
        "The drafting of project 1 is stopped; `captioner preannotate --project 1` continues it.\n"
    )
    assert store.refresh_state(1).stopped
    preannotate(meanwhile=interrupt)
    state = store.refresh_state(1)
    assert (state.stopped, state.checked, state.checked_to, state.wanted) == (False, 5, 5, EVERY)


def test_who_watches_is_told_that_it_was_stopped_or_what_goes_wrong(
    preannotate: Callable[..., Result], store: Store
) -> None:
    def fail() -> None:
        if store.refresh_state(1).failure:
            store.stop_refresh(1)
        else:
            store.order_refresh(1, failure="Label Studio cannot be reached.")

    done = preannotate(meanwhile=fail)
    assert done.exit_code == 1
    assert done.output.count("Label Studio cannot be reached. It is tried again in a minute.") == 1
    assert "The drafting of project 1 was stopped; `captioner preannotate --project 1` continues it." in done.output


@pytest.mark.parametrize(
    ("project", "config", "sentence"),
    [
        (1, "<View/>", "Captions cannot be stored in project 1: "),
        (1, None, "no model for project 1 yet"),
        (7, None, "Project 7 is not connected; `captioner status` lists the connected projects."),
    ],
)
def test_what_cannot_be_is_said_at_once(
    preannotate: Callable[..., Result], studio: Host, store: Store, project: int, config: str | None, sentence: str
) -> None:
    if config:
        studio.answers["/api/projects/1"] = Answer(body=json.dumps({"id": 1, "label_config": config}).encode())
    else:
        Registry(store).rollback(1)
    done = preannotate(project=project)
    assert done.exit_code > 0
    assert sentence in done.output
    assert store.refresh_state(project).wanted is None
