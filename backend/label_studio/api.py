"""HTTP calls to Label Studio with a token, and sentences that explain its errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin

import requests

from backend.domain.errors import LabelStudioError, LabelStudioRefusalError
from backend.label_studio.token import Token
from backend.system import trust

JSON = Any
"""Any JSON value that Label Studio answers; callers check the parts they use."""

TIMEOUT_SECONDS = (5.0, 120.0)  # the action Batch predictions waits up to 100 s for /predict


class Api:
    """The API of the Label Studio at `url`, with an API key of either kind. Threads may share it.

    Every method raises LabelStudioError when Label Studio cannot be reached, and its subclass LabelStudioRefusalError
    when it answers with an error. The message is one sentence that says what to do.
    """

    def __init__(self, url: str, api_key: str) -> None:
        self.url = url.rstrip("/")
        self.token = Token(self.url, api_key)
        self.requests = 0  # sent so far
        self.ahead_seconds: float | None = None  # of its clock over this machine's, by its last answer

    def get(self, path: str, **params: Any) -> JSON:
        return self._call("GET", path, params=params)

    def post(self, path: str, body: JSON = None, **params: Any) -> JSON:
        return self._call("POST", path, json=body, params=params)

    def patch(self, path: str, body: JSON, **params: Any) -> JSON:
        return self._call("PATCH", path, json=body, params=params)

    def delete(self, path: str) -> None:
        self._call("DELETE", path)

    def _call(self, method: str, path: str, **options: Any) -> JSON:
        answer = self._send(method, path, **options)
        if answer.status_code == 401 and self.token.personal:
            self.token.forget()  # Label Studio was restarted, or the clocks differ: try once with a new access token
            for _, (_, file) in options.get("files") or []:
                file.seek(0)
            answer = self._send(method, path, **options)
        if answer.status_code != 404 and (not answer.ok or answer.is_redirect):
            raise self._refusal(method, path, answer)
        if answer.ok and not answer.content:
            return None
        try:
            content = answer.json()
        except (ValueError, RecursionError) as error:
            raise LabelStudioError(
                f"{self.url}{path} answered something that is not JSON; check that {self.url} is the address of a "
                f"Label Studio alone, such as http://localhost:8080."
            ) from error
        if not answer.ok:
            raise self._refusal(method, path, answer)
        return content

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        header = self.token.header()
        self.requests += 1

        def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers.update(header)
            return request

        asked = time.time()
        try:
            answer = trust.request(
                method,
                f"{self.url}{path}",
                auth=authorise,  # a plain header would be replaced by credentials of ~/.netrc
                timeout=TIMEOUT_SECONDS,
                allow_redirects=False,  # the token must not be sent to another host
                **options,
            )
        except requests.Timeout as error:
            raise LabelStudioError(
                f"Label Studio at {self.url} did not answer {method} {path} in time; try again, or look at its log."
            ) from error
        except requests.RequestException as error:
            reason = trust.fault(error) or "check the address and that it is running"
            raise LabelStudioError(f"Label Studio at {self.url} cannot be reached; {reason}.") from error
        except ValueError as error:  # a Location that is no address
            raise LabelStudioError(
                f"{self.url}{path} answered something that cannot be read ({error}); check that it is a Label Studio."
            ) from error
        if date := answer.headers.get("Date"):
            with suppress(ValueError):
                self.ahead_seconds = parsedate_to_datetime(date).timestamp() - (asked + time.time()) / 2
        return answer

    def _refusal(self, method: str, path: str, answer: requests.Response) -> LabelStudioRefusalError:
        status, detail = answer.status_code, _detail(answer)
        if answer.is_redirect:
            location = urljoin(f"{self.url}{path}", answer.headers["Location"])
            final = location.partition("?")[0]
            address = (
                final.removesuffix(path)
                if final.endswith(path)
                else "its address alone, such as http://localhost:8080,"
            )
            message = f"Label Studio at {self.url} redirects to {location}; give {address} as LABEL_STUDIO_URL."
        elif status == 401 and self.token.personal:
            message = (
                f"Label Studio at {self.url} refuses this personal access token; create a new one under "
                f"Account & Settings and set LABEL_STUDIO_API_KEY."
            )
        elif status == 401:
            cause = "because legacy tokens are off (the default)" if "disabled" in detail else f"({detail.rstrip('.')})"
            message = (
                f"Label Studio at {self.url} refuses this legacy token {cause}; set LABEL_STUDIO_API_KEY to a personal "
                f"access token (Account & Settings), or switch legacy tokens on (Organization, API Tokens Settings)."
            )
        else:
            message = f"Label Studio at {self.url} answered {status} to {method} {path}: {detail}"
        return LabelStudioRefusalError(message, status, detail)


def _detail(answer: requests.Response) -> str:
    """Label Studio's message: its validation errors, else its `detail`, else the HTTP reason."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return answer.reason  # an HTML page
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    message = "; ".join(_messages(body))
    return " ".join(message.split())[:500] or answer.reason


def _messages(value: Any, field: str = "") -> Iterator[str]:
    """Every text in a tree of error messages, preceded by the name of its field."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _messages(item, "" if key == "non_field_errors" else key)
    elif isinstance(value, list):
        for item in value:
            yield from _messages(item, field)
    elif isinstance(value, str):
        yield f"{field}: {value}" if field else value
