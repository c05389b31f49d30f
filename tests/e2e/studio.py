"""A real Label Studio for tests: its database is migrated once per version, each server begins with a copy."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from filelock import FileLock

from backend.settings import loopback_without_proxy
from backend.system.ports import free_port, is_healthy
from backend.up import label_studio_server
from demo.browser import Browser

START_SECONDS = 300.0


@dataclass(frozen=True)
class Studio:
    """A Label Studio that runs, and the token of its only user."""

    url: str
    token: str
    data_dir: Path

    @property
    def client(self) -> Browser:
        return Browser(self.url, self.token)

    def invited(self, email: str) -> Browser:
        """Another annotator, who has signed up by the link of an invitation."""
        page = f"{self.url}{self.client.get('/api/invite')['invite_url']}"
        with requests.Session() as session:
            session.get(page, timeout=60).raise_for_status()
            form = {"email": email, "password": "a long password", "csrfmiddlewaretoken": session.cookies["csrftoken"]}
            session.post(page, data=form, headers={"Referer": page}, timeout=60).raise_for_status()
            answer = session.get(f"{self.url}/api/current-user/token", timeout=60)
        return Browser(self.url, answer.json()["token"])

    def age_predictions(self, project: int) -> None:
        """As if all predictions of the project had been made eleven minutes earlier."""
        database = sqlite3.connect(self.data_dir / "label-studio" / "label_studio.sqlite3", timeout=60)
        with closing(database), database:
            earlier = "strftime('%Y-%m-%d %H:%M:%f', created_at, '-11 minutes')"
            database.execute(f"UPDATE prediction SET created_at = {earlier} WHERE project_id = ?", [project])


@contextmanager
def running(data_dir: Path) -> Iterator[Studio]:
    """Label Studio over the folder for the time of the block."""
    loopback_without_proxy()
    account = label_studio_server.login(data_dir)
    port = free_port()
    server = label_studio_server.child(data_dir, port, account)
    studio = Studio(f"http://127.0.0.1:{port}", account.token, data_dir)
    server.start()
    try:
        server.await_ready(lambda: is_healthy(studio.url), START_SECONDS)
        yield studio
    finally:
        server.stop()


def prepare(data_dir: Path) -> None:
    """Leave in the folder what a first start leaves, which takes half a minute of migrations: database and account.

    The copy it is taken from lies in Label Studio's environment and is made by a real first start.
    """
    if not label_studio_server.is_installed():
        label_studio_server.install(data_dir / "logs" / "install.log")
    template = label_studio_server.environment() / "migrated" / label_studio_server.VERSION
    template.parent.mkdir(exist_ok=True)
    with FileLock(f"{template}.lock"):
        if not template.exists():
            with TemporaryDirectory(prefix="captioner-label-studio-") as folder:
                with running(Path(folder)):
                    pass
                unfinished = template.with_suffix(".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(Path(folder) / "label-studio", unfinished)
                unfinished.rename(template)
    shutil.copytree(template, data_dir / "label-studio")
