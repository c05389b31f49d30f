"""Bearer tokens of machines: a file that names each, says what it may do, and holds its SHA-256 only."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, cast

from backend.domain.errors import SettingsError

log = logging.getLogger(__name__)

Scope = Literal["read", "write"]
"""What a token may do: `read` what GET answers, or `write`, which is everything."""

EMPTY = hashlib.sha256(b"").hexdigest()
"""What `printf %s "$TOKEN" | sha256sum` prints where TOKEN is not set."""

_LINE = re.compile(r"(?P<name>\S+)\s+(?P<scope>read|write)\s+(?P<digest>[0-9a-f]{64})", re.ASCII | re.IGNORECASE)


class Tokens:
    """The tokens of a file, which is read again when it has changed. Threads may share it.

    A token is as long as its maker likes, so it must be random; then one hash without salt keeps it.
    """

    def __init__(self, file: Path) -> None:
        """Raises SettingsError when the file cannot be read or a line is none of `NAME read|write SHA256`."""
        self._file = file
        self._lock = threading.Lock()
        self._state: tuple[int, ...] | None = self._stat()
        self._scopes = self._read()

    def scope(self, token: str) -> Scope | None:
        """What the token may do; None when it is not in the file. While the file cannot be read no token is."""
        with self._lock:
            state = self._stat()
            if state != self._state:
                try:
                    self._scopes, self._state = self._read(), state
                except SettingsError as error:
                    if self._state is not None:
                        log.error("No token is taken until this is mended: %s", error)
                    self._scopes, self._state = {}, None  # who mends it may leave its time and size as they are
            # By its hash: how long finding it takes says nothing about the token.
            return self._scopes.get(hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest())

    def _stat(self) -> tuple[int, ...]:
        try:
            found = self._file.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Mapping[str, Scope]:
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError(f"CAPTIONER_TOKENS_FILE={str(self._file)!r} cannot be read: {reason}.") from error
        found: dict[str, Scope] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            parts = _LINE.fullmatch(line.strip())
            if parts is None:
                raise SettingsError(
                    f"Line {number} of {self._file} (CAPTIONER_TOKENS_FILE) is not `NAME read|write SHA256`: put the "
                    f"token's SHA-256 there, 64 hexadecimal digits, and not the token."
                )
            if parts["digest"].lower() == EMPTY:
                raise SettingsError(
                    f"Line {number} of {self._file} (CAPTIONER_TOKENS_FILE) has the SHA-256 of nothing, which lets "
                    f"everybody in: put that of the token there."
                )
            found[parts["digest"].lower()] = cast(Scope, parts["scope"].lower())
        return found
