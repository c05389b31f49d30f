"""The database is locked, stopped and started again, or has no connection left."""

from __future__ import annotations

import signal
import socket
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.domain.errors import DatabaseError
from backend.retraining.heartbeat import Heartbeat
from backend.store import database
from backend.store.store import Store
from backend.web.app import create_app
from benchmarks.services import PostgreSQL
from tests import factories


def webhook(id: int) -> dict[str, Any]:
    caption = {"value": {"text": ["a dot"]}, "from_name": "caption", "to_name": "image", "type": "textarea"}
    annotation = {"id": id, "task": id, "result": [caption], "updated_at": "2026-01-01T00:00:00Z"}
    config = {
        "label_config": '<View><Image name="image" value="$image"/><TextArea name="caption" toName="image"/></View>'
    }
    task = {"id": id, "data": {"image": f"/data/upload/1/{id}.jpg"}}
    return {"action": "ANNOTATION_CREATED", "annotation": annotation, "task": task, "project": {"id": 1, **config}}


def sent(client: FlaskClient, id: int) -> tuple[int, str]:
    answer = client.post("/webhook", json=webhook(id))
    return answer.status_code, answer.get_json().get("error", "")


def known(store: Store) -> set[int]:
    return {each.annotation_id for each in store.corrections(1)}


def test_a_locked_database_is_waited_for_and_then_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = factories.backend(tmp_path)
    client = create_app(services).test_client()
    answers: list[tuple[int, str]] = []
    with closing(sqlite3.connect(tmp_path / "captioner.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=lambda: answers.append(sent(client, 1)))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        other.execute("COMMIT")
        waiting.join(20)
        assert answers == [(200, "")]

        monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
        services = factories.backend(tmp_path)
        client = create_app(services).test_client()
        other.execute("BEGIN IMMEDIATE")
        assert sent(client, 2) == (
            503,
            f"The database sqlite:///{tmp_path}/captioner.db cannot be used: database is locked.",
        )
        assert client.get("/health").status_code == 200
        other.execute("COMMIT")
    assert sent(client, 3) == (200, "")
    assert known(services.store) == {1, 3}


def test_who_waits_behind_others_for_a_locked_database_does_not_wait_for_each_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the threads of the web process would all wait, and none would answer."""
    store = Store(f"sqlite:///{tmp_path}/captioner.db")
    store.migrate()
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    refused: list[str] = []

    def write() -> None:
        try:
            store.record(factories.saved(factories.correction()))
        except DatabaseError as error:
            refused.append(str(error))

    second = threading.Thread(target=write, daemon=True)
    with store.writing(1):
        second.start()
        second.join(20)
        assert refused == [
            f"The database sqlite:///{tmp_path}/captioner.db cannot be used: others write to it for too long."
        ]


def test_a_database_that_stops_and_starts_again_is_used_again(
    postgresql_server: PostgreSQL, postgresql_url: str, tmp_path: Path
) -> None:
    services = factories.backend(tmp_path, DATABASE_URL=postgresql_url)
    client = create_app(services).test_client()
    assert sent(client, 1) == (200, "")
    retrain = services.store.request_retrain(1, asked=True, every=50)
    assert retrain
    claimed = services.store.claim_retrain(retrain.id)
    assert claimed
    heartbeat = Heartbeat(services.store, claimed)
    heartbeat.report("collect")
    try:
        postgresql_server.stop(signal.SIGQUIT)  # as in a crash: all connections are severed
        status, sentence = sent(client, 2)
        assert (status, sentence.partition(":")[0]) == (503, "The database postgresql+psycopg")
        assert "Traceback" not in sentence
        assert client.get("/health").status_code == 200
        heartbeat.report("train")  # a long training goes on
    finally:
        postgresql_server.start()
    assert sent(client, 3) == (200, "")
    assert known(services.store) == {1, 3}
    heartbeat.renew()
    assert services.store.retrains(1)[0].progress["phase"] == "train"


def test_a_connection_that_cannot_be_had_is_one_sentence(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(postgresql_url)
    store.migrate()
    monkeypatch.setattr(store.engine.pool, "_timeout", 0.1)
    held = [store.engine.connect() for _ in range(database.MOST)]
    try:
        with pytest.raises(DatabaseError, match=r"cannot be used: no connection became free\.$"):
            store.retrains(1)
    finally:
        for connection in held:
            connection.close()
    assert store.retrains(1) == []
    store.close()


def test_a_database_that_takes_a_connection_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setattr(database, "_CONNECT_SECONDS", 2)  # the least that libpq takes
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = Store(f"postgresql+psycopg://captioner@127.0.0.1:{silent.getsockname()[1]}/captioner")
        with pytest.raises(DatabaseError, match=r"cannot be used: .*timeout"):
            store.retrains(1)
