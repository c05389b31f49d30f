"""What the running ML backend serves, as it says itself."""

from __future__ import annotations

from typing import Any

import requests

from backend.settings import Settings


def serving(settings: Settings) -> dict[str, Any] | None:
    """The versions that the ML backend has loaded and the reasons why others failed, by project, and its database.

    None when it does not answer.
    """
    try:
        answer = requests.get(f"{settings.backend_url}/serving", auth=settings.basic_auth, timeout=3)
        return dict(answer.json()) if answer.ok else None
    except (requests.RequestException, ValueError, KeyError):
        return None
