"""The store that machines share: a folder behind any fsspec URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from backend.domain.errors import UnreachableImageError
from backend.images.download import shown

PATIENCE: dict[str, dict[str, Any]] = {
    protocol: {"config_kwargs": {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 1}}}
    for protocol in ("s3", "s3a")
}
"""Options by protocol: a store that is down must not hold what waits for it for minutes."""


class Remote:
    """Files in the store by names with slashes. Threads may share it.

    Any error of the store becomes an UnreachableImageError, in one sentence.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def __str__(self) -> str:
        return shown(self._url)

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder; none where there is no such folder."""
        with self._reaching() as (files, root):
            try:
                return [str(path).rpartition("/")[2] for path in files.ls(f"{root}/{folder}", detail=False)]
            except FileNotFoundError:
                return []

    def has(self, name: str) -> bool:
        with self._reaching() as (files, root):
            return bool(files.exists(f"{root}/{name}"))

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        with self._reaching() as (files, root):
            try:
                return bytes(files.cat_file(f"{root}/{name}"))
            except FileNotFoundError:
                return None

    def fetch(self, name: str, path: Path) -> bool:
        """Write a file to `path`; False where there is none."""
        with self._reaching() as (files, root):
            try:
                files.get_file(f"{root}/{name}", str(path))
            except FileNotFoundError:
                return False
            return True

    def remove(self, name: str) -> bool:
        """Delete a file; False where there is none."""
        with self._reaching() as (files, root):
            try:
                files.rm_file(f"{root}/{name}")
            except FileNotFoundError:
                return False
            return True

    def put(self, name: str, content: bytes | Path) -> None:
        """Store bytes, or what is in a local file, whole or not at all."""
        with self._reaching() as (files, root):

            def write(to: str) -> None:
                if isinstance(content, Path):
                    files.put_file(str(content), to)
                else:
                    files.pipe_file(to, content)

            self._write_whole(files, f"{root}/{name}", write)

    @staticmethod
    def _write_whole(files: Any, path: str, write: Callable[[str], None]) -> None:
        if type(files).mv is AbstractFileSystem.mv:  # it would copy and delete
            write(path)  # an object store has no folders, and writes objects atomically
            return
        parent = path.rpartition("/")[0]
        files.makedirs(parent, exist_ok=True)
        unfinished = f"{parent}/.{uuid4().hex}"
        try:
            write(unfinished)
            files.mv(unfinished, path)
        except BaseException:
            with suppress(Exception):
                files.rm_file(unfinished)
            raise

    @contextmanager
    def _reaching(self) -> Iterator[tuple[Any, str]]:
        """The store's filesystem and folder; errors in the `with` block become an UnreachableImageError."""
        try:
            yield self._filesystem
        except ImportError as error:
            missing = str(error).rstrip(".")
            raise UnreachableImageError(
                f"The store {self} (CAPTIONER_IMAGES_URL) needs a package beside this one: {missing}."
            ) from error
        except Exception as error:  # each filesystem raises errors of its own libraries
            reason = (str(error) or type(error).__name__).strip().split("\n")[0].rstrip(".")
            hint = "; set them where this process runs" if "credential" in reason.lower() else ""
            raise UnreachableImageError(
                f"The store {self} (CAPTIONER_IMAGES_URL) cannot be reached: {reason}{hint}."
            ) from error

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:
        files, folder = url_to_fs(self._url, **PATIENCE.get(self._url.partition("://")[0], {}))
        files.invalidate_cache()  # another process may have uploaded files since
        return files, folder.rstrip("/")
