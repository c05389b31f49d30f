"""Bodies that a host sent compressed, which object stores do whether they were asked to or not."""

from __future__ import annotations

import gzip
import io
import zlib

GZIP_MARK = b"\x1f\x8b"
MOST = 2
"""Compressions one upon the other that are undone; a body in more of them was made to waste time."""
_UNDONE = frozenset({"gzip", "x-gzip", "deflate"})
_KNOWN = _UNDONE | {"br", "zstd", "compress", "x-compress"}


class CompressionError(ValueError):
    """The body cannot be decompressed."""


def decompressed(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """The body without its Content-Encoding, cut after `most_bytes` and one more.

    Names of no compression (`utf-8`, `aws-chunked`) are passed over, as browsers do. Raises CompressionError where the
    compression is another one or the body is damaged, EOFError where its end is missing.
    """
    names = [name for part in encoding.split(",") if (name := part.strip().lower()) in _KNOWN]
    if len(names) > MOST or not _UNDONE.issuperset(names):
        raise CompressionError(f"it was sent compressed ({', '.join(names)[:100]}), which is not read")
    for name in reversed(names):
        try:
            body = _inflated(body, most_bytes) if name == "deflate" else _gunzipped(body, most_bytes)
        except (OSError, zlib.error) as error:
            raise CompressionError(f"it was sent compressed ({name}) and damaged") from error
    return body


def _gunzipped(body: bytes, most_bytes: int) -> bytes:
    if not body.startswith(GZIP_MARK):
        return body  # some hosts say so of a file that they send as it is
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as file:
        return file.read(most_bytes + 1)


def _inflated(body: bytes, most_bytes: int) -> bytes:
    try:
        return _inflated_as(body, most_bytes, zlib.MAX_WBITS)
    except zlib.error:  # many servers leave out the frame that the standard asks for
        return _inflated_as(body, most_bytes, -zlib.MAX_WBITS)


def _inflated_as(body: bytes, most_bytes: int, window_bits: int) -> bytes:
    inflating = zlib.decompressobj(window_bits)
    found = inflating.decompress(body, most_bytes + 1)
    if len(found) <= most_bytes and not inflating.eof:
        raise EOFError
    return found
