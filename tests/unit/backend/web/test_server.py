from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from backend.domain.errors import DatabaseError
from backend.settings import Settings
from backend.web import server, services
from backend.web.services import Services
from tests import factories


def test_a_process_that_starts_while_the_database_is_away_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = factories.backend(tmp_path)
    away = [DatabaseError("The database cannot be used: connection refused.")] * 2

    def build(settings: Settings) -> Services:
        if away:
            raise away.pop()
        return made

    monkeypatch.setattr(services, "build", build)
    monkeypatch.setattr(server, "RETRY_SECONDS", 0.0, raising=False)
    monkeypatch.setattr(server, "end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    monkeypatch.setattr(server, "MEMORY", str(tmp_path))
    application = server._Server(made.settings)
    monkeypatch.setattr(application, "_arbiter", os.getppid())
    with caplog.at_level(logging.WARNING, "backend.web.server"):
        app = application.load()
    made.stop()
    assert app.test_client().get("/health").status_code == 200
    assert caplog.messages == ["The server waits: The database cannot be used: connection refused."]


def test_what_a_killed_server_has_counted_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MEMORY", str(tmp_path))
    running = server._folder_to_count_in()
    killed = tmp_path / "captioner-metrics-killed"
    killed.mkdir()
    for folder in (running, killed):
        os.utime(folder, (0, 0))
    new = server._folder_to_count_in()
    assert {str(path) for path in tmp_path.iterdir()} == {running, new}
