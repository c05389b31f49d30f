"""Draws docs/status-page.png: the status page of a project with generated rows, in Chromium while a retrain runs."""

from __future__ import annotations

import logging
import tempfile
import threading
from pathlib import Path

from werkzeug.serving import make_server

from backend.web.app import create_app
from backend.web.services import Services
from tests import factories
from tests.browser import chromium
from tests.factories import correction, draft, saved
from tests.lively import lively

OUT = Path(__file__).parents[1] / "status-page.png"
TRAINING = {"phase": "train", "epoch": 3, "epochs": 8, "step": 5, "steps": 12, "loss": 2.3, "phase_seconds": 25.0}
LOGIN = {"username": "lead", "password": "of a picture"}
"""With a password the page offers what it would else name a command for."""
TEXT = "A dog runs on the grass."


def draw(data_dir: Path, out: Path) -> None:
    services = factories.backend(data_dir, BASIC_AUTH_USER=LOGIN["username"], BASIC_AUTH_PASS=LOGIN["password"])
    retrain = lively(services)
    for number in range(1, 6):
        keep(services, f"p1-v{number}", range(10_000 * number, 10_000 * number + 3 * number))
    services.store.renew_retrain(retrain, TRAINING)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, create_app(services), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with chromium() as browser:
        size = {"width": 1100, "height": 1000}
        page = browser.new_page(viewport=size, color_scheme="light", http_credentials=LOGIN)
        page.goto(f"http://127.0.0.1:{server.server_port}/projects/1")
        page.screenshot(path=str(out))
    server.shutdown()


def keep(services: Services, version: str, tasks: range) -> None:
    """Drafts of the version that annotators keep: the more, the later the version."""
    services.store.add_drafts(1, [draft(task, version, TEXT) for task in tasks])
    services.store.record(saved(*(correction(task, TEXT) for task in tasks)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), OUT)
