"""`captioner select` as a person uses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import labeling_config
from backend.cli import selection as module
from backend.cli.main import main
from backend.reports import selection
from backend.store.drafts.refreshes import DRAFTING, STORED, WAITING
from backend.store.drafts.selections import WANTED, Chosen
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from tests.factories import correction, saved, settings
from tests.fakes import Answer, Host, host

CONFIG = labeling_config.shipped("caption")


@pytest.fixture
def studio() -> Iterator[Host]:
    """A Label Studio with one project, whose fields may be changed."""
    project = {"id": 1, "model_version": "captioner", "label_config": CONFIG, "sampling": "Sequential sampling"}

    def answer(request: BaseHTTPRequestHandler) -> Answer:
        if length := int(request.headers.get("Content-Length") or 0):
            project.update(json.loads(request.rfile.read(length)))
        return Answer(body=json.dumps(project).encode())

    with host() as running:
        running.answers["/api/projects/1"] = answer
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    store.save_project(1, CONFIG)
    Registry(store).register(ModelVersion("v1", Path("checkpoint")))
    Registry(store).promote(1, "v1", reason="for a test", by="test")
    return store


@pytest.fixture
def select(tmp_path: Path, studio: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command, with what happens while it shows the progress."""

    def run(*flags: str, meanwhile: Callable[[], object] = lambda: None) -> Result:
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: meanwhile()))
        environ = {"CAPTIONER_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:1/0"}
        environ |= {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": "0" * 40}
        return CliRunner().invoke(main, ["select", "--project", "1", *flags], env=environ)

    return run


def steps(*given: Callable[[], object]) -> Callable[[], object]:
    left = list(given)
    return lambda: left.pop(0)()


def interrupt() -> None:
    raise KeyboardInterrupt


def chosen(store: Store) -> None:
    made = store.save_choice(store.selections(1)[-1], "v1", "Sequential sampling", [Chosen(3, True), Chosen(1, False)])
    assert made
    store.mark_stored(made, [3], [])


def test_it_orders_drafts_and_shows_the_progress_until_the_selection_is_served(
    select: Callable[..., Result], store: Store
) -> None:
    seen: list[Any] = []

    def drafted() -> None:
        seen.append((store.refresh_state(1).wanted, store.selections(1)[-1]))
        store.order_refresh(1, version="v1", state=WAITING, mode=STORED)

    def shown() -> None:
        seen.append(line(store))
        assert store.show_selection(store.selections(1)[-1])

    done = select("--count", "3", "--strategy", "margin", meanwhile=steps(drafted, lambda: chosen(store), shown))
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        "Project 1: the label stream serves 2 tasks first, 1 of them drawn at random. "
        "No more wait that are no near duplicates of others.\n"
    )
    assert (seen[0][0], seen[0][1].state, seen[0][1].strategy) == (STORED, WANTED, "margin")
    assert seen[1] == "  selected     2 tasks by margin, 1 of them at random, 1 of them stored in Label Studio so far"
    store.record(saved(correction(3)))
    assert line(store) == "  selected     2 tasks by margin, 1 of them at random, 1 labelled"
    undone = select("--undo")
    assert undone.output == "Nothing is selected in project 1 any more: its tasks are served in the order of before.\n"
    assert line(store).endswith(", 1 labelled; served first no more")
    assert "Nothing is selected in project 1." in select("--undo").output


def line(store: Store) -> str:
    [text] = selection.lines(selection.report(store, 1))
    return text


def test_ctrl_c_ends_only_the_showing(select: Callable[..., Result], store: Store) -> None:
    done = select("--count", "5", "--after-promotions", meanwhile=interrupt)
    assert done.exit_code == 0
    assert "`captioner select --project 1 --undo` ends it." in done.stdout
    made = store.selections(1)[-1]
    assert (made.state, made.count, made.after_promotions) == (WANTED, 5, True)
    store.save_shortlist(made, [1, 2, 3])
    store.save_disagreements(made, {2: 0.4})
    assert line(store) == (
        "  selected     not yet: up to 5 tasks by combined are chosen (captions sampled of 1 of 3); "
        "anew after each promotion"
    )


@pytest.mark.parametrize(
    ("happens", "sentence"),
    [
        (lambda store: store.stop_refresh(1), "The drafting of project 1 was stopped; `captioner refresh --project 1`"),
        (lambda store: store.undo_selections(1), "was undone, or another one was ordered."),
        (lambda store: store.end_selection(store.selections(1)[-1], "None waits."), "None waits."),
    ],
)
def test_who_watches_is_told_why_nothing_is_selected(
    select: Callable[..., Result], store: Store, happens: Callable[[Store], object], sentence: str
) -> None:
    store.order_refresh(1, version="v1", state=DRAFTING)
    done = select("--count", "1", meanwhile=lambda: happens(store))
    assert done.exit_code == 1
    assert sentence in done.output


def test_what_cannot_be_is_said_at_once(select: Callable[..., Result], store: Store) -> None:
    assert "Give --count" in select().output
    assert select("--count", "0").exit_code == 2
    Registry(store).rollback(1)
    assert "no model for project 1 yet" in select("--count", "1").output
    assert store.selections(1) == []
