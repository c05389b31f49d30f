"""The lines that processes log: each names the request or job that is worked on, none shows a secret or a caption."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType

log = logging.getLogger(__name__)

TEXT, JSON = "text", "json"
TOLD = ("backend", "training", "rq", "gunicorn")
"""Of these everything from INFO on is logged; other libraries tell warnings only."""
HIDDEN = "***"
SHORTEST_SECRET = 4
"""A shorter password is not looked for: it would be found in half of all lines."""

_WORDS = r"password|passwd|passphrase|secret|access_token|refresh_token|refresh|token|api_?key|signature|credential"
_SECRET = [
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/'\"<>]*@", re.I), rf"\1{HIDDEN}@"),
    (re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?)(?:(basic|bearer|token)\s+)?[^\s'\",}]+", re.I), rf"\1{HIDDEN}"),
    (re.compile(r"\b(basic|bearer|token) [\w.~+/-]{16,}=*", re.I), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), HIDDEN),  # what access tokens look like
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])"), HIDDEN),  # what Label Studio's legacy tokens look like
    (re.compile(rf"([?&](?:[\w-]*(?:{_WORDS})|sig|key)=)[^&\s'\"]+", re.I), rf"\1{HIDDEN}"),
    (re.compile(rf"(['\"][\w-]*(?:{_WORDS})['\"]\s*:\s*)(['\"]).*?(?<!\\)\2", re.I), rf"\1\2{HIDDEN}\2"),
]
_QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
_CAPTION = [
    (re.compile(rf"(['\"](?:text|texts|typed)['\"]\s*:\s*)[\[(](?:{_QUOTED}|[^'\"\])])*[\])]?"), rf"\1[{HIDDEN}]"),
    (
        re.compile(r"(['\"](?:text|caption|draft_text|withheld)['\"]\s*:\s*)(['\"]).*?(?<!\\)\2", re.S),
        rf"\1\2{HIDDEN}\2",
    ),
    (re.compile(r"(Failing row contains )\(.*\)", re.S), rf"\1({HIDDEN})"),  # PostgreSQL shows the whole row
]

_ids: ContextVar[Mapping[str, str]] = ContextVar("ids", default=MappingProxyType({}))
_ids_of_process: dict[str, str] = {}


def ids() -> Mapping[str, str]:
    """What is worked on here, by kind: `request`, `job`."""
    return {**_ids_of_process, **_ids.get()}


@contextmanager
def working_on(ids: Mapping[str, str]) -> Iterator[None]:
    """Lines that are logged within the block have these ids. Another thread does not know of it."""
    token = _ids.set({**_ids.get(), **ids})
    try:
        yield
    finally:
        _ids.reset(token)


def process_works_on(**ids: str) -> None:
    """All lines of this process have these ids from now on."""
    _ids_of_process.update(ids)


def together(several: Iterable[Mapping[str, str]]) -> Mapping[str, str]:
    """The ids of what is worked on for several at once."""
    found: dict[str, dict[str, None]] = {}
    for each in several:
        for kind, id_ in each.items():
            found.setdefault(kind, {})[id_] = None
    return {kind: ",".join(those) for kind, those in found.items()}


class Ids(logging.Filter):
    """Puts the ids on each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.ids = ids()
        return True


class _Redacting(logging.Formatter):
    """Formats lines for people, without secrets and captions."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, known))
        self._known = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)") if known else None

    def format(self, record: logging.LogRecord) -> str:
        return self.redacted(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        found: Mapping[str, str] = getattr(record, "ids", {})
        return " ".join([super().formatMessage(record), *(f"{kind}={id_}" for kind, id_ in found.items())])

    def redacted(self, text: str) -> str:
        if self._known:
            text = self._known.sub(HIDDEN, text)
        for pattern, instead in (*_SECRET, *_CAPTION):
            text = pattern.sub(instead, text)
        return text


class _JsonLines(_Redacting):
    """One JSON object a line, for programs that collect logs."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": self.redacted(record.getMessage()),
            **getattr(record, "ids", {}),
        }
        if record.exc_info:
            line["error"] = self.redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """In place of Python's own lines, which know no form and hide nothing."""
    if failed.exc_value is not None and failed.exc_type is not SystemExit:
        name = failed.thread.name if failed.thread else "unknown"
        error = (failed.exc_type, failed.exc_value, failed.exc_traceback)
        log.error("The thread %s failed.", name, exc_info=error)


def configure(form: str = TEXT, secrets: Iterable[str] = ()) -> None:
    """Log to standard error in this form, `text` or `json`; these secrets are shown nowhere."""
    handler = logging.StreamHandler()
    handler.setFormatter((_JsonLines if form == JSON else _Redacting)(secrets))
    handler.addFilter(Ids())
    logging.basicConfig(handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed
    for name in TOLD:
        logging.getLogger(name).setLevel(logging.INFO)
