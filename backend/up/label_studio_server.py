"""Label Studio in its own environment, because its pinned packages differ from this project's."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from backend.domain.errors import CaptionerError
from backend.label_studio.client import IMPORT_FLAG
from backend.system.processes import Child
from training.runtime.files import atomic_file
from training.runtime.processes import end_with_parent

_HERE = Path(__file__).parent
VERSION = (_HERE / "label_studio_version.txt").read_text().strip()


@dataclass(frozen=True)
class Login:
    """The account that `up` makes once per data folder."""

    email: str
    password: str
    token: str


def login(data_dir: Path) -> Login:
    """The account of the data folder, made on first use and readable by its owner only.

    The token is read from Label Studio's database, because it may differ from the one in the file: Label Studio makes
    another one when it is killed during its first start, or when the user asks for one. Raises CaptionerError when
    the file is damaged.
    """
    path = data_dir / "label-studio" / "login.json"
    if path.exists():
        try:
            known = Login(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise CaptionerError(
                f"{path} is damaged ({error}): restore it, or remove {path.parent} to start with a new Label Studio."
            ) from error
        return replace(known, token=_token(path.parent / "label_studio.sqlite3", known.email) or known.token)
    made = Login("annotator@example.com", secrets.token_urlsafe(9), secrets.token_hex(20))
    with atomic_file(path, private=True) as unfinished:
        unfinished.write_text(json.dumps(asdict(made)))
    return made


def environment() -> Path:
    """Label Studio's environment: beside this one, shared by all data folders."""
    return Path(sys.prefix).parent / ".label-studio"


def is_installed() -> bool:
    marker = environment() / ".ready"
    return marker.exists() and marker.read_text() == _lock_text()


def install(log: Path) -> None:
    """Make the environment from the pinned versions; a lock lets only one process do so.

    Raises CaptionerError with the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    target = environment()
    with FileLock(f"{target}.lock"):
        if is_installed():
            return
        python, lock = str(target / "bin" / "python"), str(_HERE / "label_studio.lock")
        for step in (
            ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(target)],
            # Compiled now, by all cores: else its first start does it by one, and each where Python may not write.
            ["pip", "sync", "--quiet", "--compile-bytecode", "--python", python, "--require-hashes", lock],
        ):
            argv = [sys.executable, "-P", "-m", "uv", *step]
            with log.open("ab") as output:
                done = subprocess.run(argv, stdout=output, stderr=output, check=False, preexec_fn=end_with_parent)
            if done.returncode:
                end = log.read_text(errors="replace").strip().splitlines()[-2:]
                raise CaptionerError(
                    f"Label Studio {VERSION} could not be installed into {target}: {' '.join(end)} (log: {log})."
                )
        (target / ".ready").write_text(_lock_text())


def child(data_dir: Path, port: int, account: Login) -> Child:
    """Label Studio as a child process on the loopback address."""
    environ = {
        **os.environ,
        "LABEL_STUDIO_BASE_DATA_DIR": str(data_dir / "label-studio"),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "USE_DEFAULT_BANNED_SUBNETS": "false",  # or it refuses loopback addresses, where the ML backend is
        "LABEL_STUDIO_HOST": f"http://127.0.0.1:{port}",
        "LABEL_STUDIO_USERNAME": account.email,  # in the environment, not in the process list
        "LABEL_STUDIO_PASSWORD": account.password,
        "LABEL_STUDIO_USER_TOKEN": account.token,
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        IMPORT_FLAG: "true",
    }
    for name in ("DATABASE_URL", "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "DJANGO_SETTINGS_MODULE"):
        environ.pop(name, None)
    argv = [str(environment() / "bin" / "label-studio"), "start", "--no-browser", "--internal-host", "127.0.0.1"]
    argv += ["--port", str(port), "--enable-legacy-api-token"]
    return Child("Label Studio", argv, data_dir / "logs" / "label-studio.log", environ)


def _token(database: Path, email: str) -> str | None:
    """The account's token in Label Studio's database; None if there is none yet."""
    query = "SELECT key FROM authtoken_token JOIN htx_user ON htx_user.id = user_id WHERE email = ?"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute(query, (email,)).fetchone()
    except sqlite3.Error:  # not made yet
        return None
    return str(row[0]) if row else None


def _lock_text() -> str:
    return (_HERE / "label_studio.lock").read_text()
