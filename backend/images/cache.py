"""Turns image references into local files: fetched through the guard, cached by content."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from backend.domain.corrections import Task
from backend.domain.errors import ImageError, LabelStudioError, LabelStudioUnreachableError, UnreachableImageError
from backend.images.addresses import AddressGuard, Origin
from backend.images.download import MAX_BYTES, Downloader, StatusError, shown
from backend.images.inline import decoded, is_inline, named
from backend.images.turns import Turns
from backend.label_studio.token import Token
from backend.settings import Settings
from backend.store.store import Project
from backend.system import metrics
from training.runtime.files import atomic_file, is_full

log = logging.getLogger(__name__)

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
JPEGS = frozenset({"JPEG", "MPO"})  # MPO: a JPEG with further ones behind it, as many phones and cameras write
CLOUD_SCHEMES = frozenset({"s3", "gs", "azure-blob"})
MAX_PIXELS = 50_000_000
MAX_JPEG_PIXELS = 150_000_000  # of a JPEG as little as a 64th is decoded; what must be decoded whole takes memory
REFETCH_AFTER_SECONDS = 24 * 3600.0
"""The image at an address may change, so it is fetched again after so long; Label Studio's uploads never change."""


@dataclass(frozen=True)
class LocalImage:
    """A verified image file in the cache; `sha256` is of its bytes."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class _Source:
    url: str
    owner: Origin | None  # Label Studio's origin where the token may go with the request
    lasting: bool


class Images:
    """Local files for image references, kept under `data_dir/images`, where `space` keeps them below a limit.

    Contents are at `<2>/<sha256>.<ext>`; `index` maps references to contents and their sizes. No draft waits for the
    disk: what a power cut leaves incomplete is fetched again. A token is sent to its own origin only: the configured
    key to LABEL_STUDIO_URL, the token of /setup to the host of that /setup, which the address guard checks too.
    Threads and processes may share it.
    """

    def __init__(self, settings: Settings, downloader: Downloader | None = None) -> None:
        self._root = settings.data_dir / "images"
        self._url = settings.label_studio_url
        self._download = downloader or Downloader(AddressGuard(self._url, settings.image_hosts))
        key = settings.label_studio_api_key
        self._token = Token(self._url, key) if self._url and key else None
        self._turns = Turns()

    def local(self, reference: str, task: Task, project: Project | None = None, whole: bool = False) -> LocalImage:
        """The image `reference` of `task` as a local file; with `whole`, one that is damaged is fetched again.

        References are Label Studio's: `/data/upload/…`, `/data/local-files/?d=…`, `s3://…`, `gs://…`, `azure-blob://…`,
        `https://…`, or the image itself as `data:…`. Where none is configured, `project` names Label Studio. Raises
        ImageError in one sentence.
        """
        if any("\ud800" <= character <= "\udfff" for character in reference):
            raise ImageError(f"{named(reference)[:200]!a} is not an image reference: it holds half a character.")
        source = self._source(reference.strip(), task, project)
        place = hashlib.sha256(f"{source.owner}\n{reference.strip()}".encode()).hexdigest()
        entry = self._root / "index" / place[:2] / f"{place}.json"
        attempt = source.url, project.access_token if project else None
        with self._turns.at(place) as failures:  # requests for one new image at once fetch it once
            known, fresh = self._known(entry, whole)
            if known and (source.lasting or fresh):
                metrics.looked_up("images", 1, 0)
                return known
            metrics.looked_up("images", 0, 1)
            try:
                if attempt in failures:
                    raise failures[attempt]
                return self._keep(self._fetch(source, project), reference, entry)
            except ImageError as error:
                failures[attempt] = error
                if not known:
                    raise
                log.warning("%s The copy fetched before is used.", error)
                return known

    def _source(self, reference: str, task: Task, project: Project | None) -> _Source:
        if is_inline(reference):
            return _Source(reference, None, lasting=True)
        scheme = "" if reference.startswith("/") else reference.partition("://")[0].lower()
        base = self._url or (project.hostname.rstrip("/") if project and project.hostname else None)
        if scheme in {"http", "https"}:
            own = base is not None and Origin.of(reference) == Origin.of(base) and _serves_files(reference, base)
            return _Source(reference, Origin.of(reference) if own else None, lasting=False)
        if scheme and scheme not in CLOUD_SCHEMES:
            raise ImageError(
                f"{reference[:200]!r} is not an image reference: an upload, a local file of Label Studio, an http(s) "
                f"address, s3://, gs:// or azure-blob:// is needed."
            )
        if base is None:
            raise ImageError(f"To fetch {shown(reference)[:200]}, set LABEL_STUDIO_URL to the address of Label Studio.")
        if scheme:
            encoded = base64.urlsafe_b64encode(reference.encode()).decode()
            return _Source(f"{base}/tasks/{task.id}/presign/?fileuri={encoded}", Origin.of(base), lasting=False)
        prefix = urlsplit(base).path
        url = (
            base.removesuffix(prefix) + reference if prefix and reference.startswith(f"{prefix}/") else base + reference
        )
        if not _serves_files(url, base):
            raise ImageError(f"{reference[:200]!r} is not a file of Label Studio: those begin with /data/.")
        return _Source(url, Origin.of(base), lasting=urlsplit(url).path.startswith(f"{prefix}/data/upload/"))

    def _fetch(self, source: _Source, project: Project | None) -> bytes:
        if is_inline(source.url):
            return decoded(source.url, MAX_BYTES)
        if source.owner is None:
            return self._download.get(source.url)
        try:
            return self._download.get(source.url, authorization=self._authorization(project), owner=source.owner)
        except StatusError as error:
            if error.status != 401:
                raise
            if self._token and self._token.personal:  # restarted Label Studio, or clocks apart: a fresh access token
                self._token.forget()
                return self._download.get(source.url, authorization=self._authorization(project), owner=source.owner)
            raise ImageError(
                f"{error} Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY (a personal access token) so that it answers."
            ) from error

    def _authorization(self, project: Project | None) -> str | None:
        if self._token:
            try:
                return self._token.header()["Authorization"]
            except LabelStudioUnreachableError as error:
                raise UnreachableImageError(str(error)) from error
            except LabelStudioError as error:
                raise ImageError(str(error)) from error
        # A token that came with a request is never exchanged: that would post to an address nobody has checked.
        if project and project.access_token and project.access_token.isalnum():
            return f"Token {project.access_token}"
        return None

    def _known(self, entry: Path, whole: bool) -> tuple[LocalImage | None, bool]:
        """What the index leads to, and whether it was fetched lately."""
        try:
            found = json.loads(entry.read_text(encoding="utf-8"))
            path, sha256, fetched = self._root / found["file"], str(found["sha256"]), float(found["fetched"])
            size = path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return None, False
        if found.get("bytes", size) != size or (whole and not is_whole(path, sha256)):
            return None, False
        with suppress(OSError):
            os.utime(path)  # `space` drops what was used least recently
        return LocalImage(path, sha256), 0 <= time.time() - fetched < REFETCH_AFTER_SECONDS

    def _keep(self, content: bytes, reference: str, entry: Path) -> LocalImage:
        sha256 = hashlib.sha256(content).hexdigest()
        name = f"{sha256[:2]}/{sha256}.{extension(content, shown(reference))}"
        path = self._root / name
        try:
            if is_whole(path, sha256):
                os.utime(path)
            else:
                write(path, content, durable=False)
            known = {"file": name, "sha256": sha256, "bytes": len(content), "fetched": time.time()}
            write(entry, json.dumps(known).encode(), durable=False)
        except OSError as error:
            raise not_stored(error, f"The image {shown(reference)} could not be stored") from error
        return LocalImage(path, sha256)


def _serves_files(url: str, base: str) -> bool:
    """Whether the path is one of those under which Label Studio serves images, so that no token is spent elsewhere."""
    path, prefix = unquote(urlsplit(url).path), urlsplit(base).path
    served = path.startswith((f"{prefix}/data/", f"{prefix}/tasks/", f"{prefix}/storage-data/"))
    return served and not {".", ".."} & set(path.replace("\\", "/").split("/"))


def extension(content: bytes, name: str, whole: bool = False) -> str:
    """The file ending for what `content` is; with `whole` its pixels are decoded too, so that its end is not missing.

    Raises ImageError when it is no image this project reads.
    """
    try:
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS)) as image:
            kind, pixels = image.format or "", image.width * image.height
            most = MAX_JPEG_PIXELS if kind in JPEGS else MAX_PIXELS
            if whole and pixels <= most:
                image.draft("RGB", (64, 64))  # a JPEG is then decoded at an eighth of its side
                image.load()
            else:
                image.verify()
    except Exception as error:  # PIL's plugins raise nearly anything on damaged files
        raise ImageError(f"The image {name} is not a readable JPEG, PNG, WebP, GIF, BMP or TIFF.") from error
    if pixels > most:
        raise ImageError(f"The image {name} has {pixels / 1e6:.0f} million pixels; {most / 1e6:.0f} fit.")
    return FORMATS["JPEG" if kind in JPEGS else kind]


def is_whole(path: Path, sha256: str) -> bool:
    """Whether the file exists and its content has this hash."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


def not_stored(error: OSError, what: str) -> ImageError:
    """The error of an image that cannot be written; a full disk is like a host that does not answer now."""
    kind = UnreachableImageError if is_full(error) else ImageError
    return kind(f"{what}: {error.strerror or error}.")


def write(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file that only its owner may read, whole or not at all; after a power cut only if it is `durable`."""
    with atomic_file(path, private=True, durable=durable) as unfinished:
        unfinished.write_bytes(content)
