"""Images that stand in the task itself, as a `data:` address. Their bodies are printed nowhere."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from backend.domain.errors import ImageError


def is_inline(reference: str) -> bool:
    return reference.lstrip()[:5].lower() == "data:"


def named(reference: str) -> str:
    """The reference; of an inline image only what kind it says it is."""
    if not is_inline(reference):
        return reference
    kind = re.match(r"data:(image/[a-z0-9.+-]{1,20}(;base64)?(?=[;,]))?", reference.strip(), re.IGNORECASE)
    return f"{kind[0] if kind else 'data:'}…"


def decoded(reference: str, max_bytes: int) -> bytes:
    """The content of an inline image, of at most so many bytes. Raises ImageError in one sentence."""
    head, comma, body = reference.strip().partition(",")
    if not comma:
        raise ImageError(f"The image {named(reference)} has no content: a comma and then base64 is needed.")
    content = unquote_to_bytes(body)
    if head.lower().replace(" ", "").endswith(";base64"):
        bare = b"".join(content.split()).rstrip(b"=")
        try:
            content = base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True)
        except binascii.Error as error:
            raise ImageError(f"The image {named(reference)} is not valid base64.") from error
    if len(content) > max_bytes:
        raise ImageError(f"The image {named(reference)} is larger than {max_bytes / 2**20:g} MB.")
    return content
