"""Hostile requests as Hypothesis draws them: by the schemas of the served description, right and wrong; Label Studio's
own bodies with something else in them; and HTTP that breaks its own rules."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from urllib.parse import quote

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import labeling_config
from backend.web.routes import ACTIONS
from benchmarks.hostile_images import mutated
from benchmarks.server import PROJECT, predict_request, setup_request, task

FORBIDDEN = (
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:1/x.png",
    "http://[::ffff:10.0.0.1]/x.png",
    "http://168.63.129.16/x",
    "file:///etc/passwd",
    "s3://bucket/../x",
    "/data/upload/../../etc/passwd",
    "/data/local-files/?d=../../etc/passwd",
    "data:image/png;base64,",
    "http://[",
    "\0",
)
PATHS = (
    "/",
    "/..%2f..%2fetc/passwd",
    "//etc/passwd",
    "/projects/99999999999999999999999",
    "/projects/1/now",
    "/projects/-1",
    "/projects/1/versions/%00",
    "/projects/1/promote/x",
    "/projects/1/rollback",
    "/images/" + "0" * 64,
    "/images/..%2f..%2fcaptioner.db",
    "/pages/..%2f..%2fapp.py",
    "/pages/page.css?v=%ff",
    "/versions?project=%00",
    "/versions?project=" + "9" * 400,
    "/train-status?project=1&project=x",
    "/metrics?x=%u1234",
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "X" * 30)
HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Content-Encoding",
    "Content-Type",
    "Cookie",
    "If-None-Match",
    "Origin",
    "Range",
    "Sec-Fetch-Site",
    "X-Forwarded-For",
    "X-HTTP-Method-Override",
    "X-Request-ID",
)


@dataclass(frozen=True)
class Sent:
    """One request. With `raw` the body begins with header lines of its own, and HTTP itself is broken."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    raw: bool = False


def each(strategy: st.SearchStrategy[Sent], number: int, draws: int, send: Callable[[Sent], None]) -> None:
    """Draw so many requests, which `draws` chooses, and send each. Nothing is made smaller where one fails."""

    @seed(draws)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def sending(request: Sent) -> None:
        send(request)

    sending()


def by_schema(document: Mapping[str, Any]) -> st.SearchStrategy[Sent]:
    """Requests of every operation that the description allows, and others that it does not."""
    schema = schemathesis.openapi.from_dict(copy.deepcopy(dict(document)))
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    strategies = []
    for operation in operations:
        for mode in modes:
            try:
                strategies.append(operation.as_strategy(generation_mode=mode))
            except Exception:  # noqa: S112 - an operation without anything to vary has no wrong requests
                continue
    prepared: st.SearchStrategy[Any] = st.one_of(strategies).map(_prepared)
    return prepared.filter(lambda sent: sent is not None)


def _prepared(case: schemathesis.Case) -> Sent | None:
    """None where no HTTP client could send it."""
    try:
        options = case.as_transport_kwargs(base_url="http://127.0.0.1")
        names = ("method", "url", "headers", "params", "data", "json", "cookies")
        made = requests.Request(**{name: options[name] for name in names if name in options}).prepare()
        body = made.body or b""
        headers = tuple((name, value) for name, value in made.headers.items() if name.lower() != "content-length")
        return Sent(str(made.method), made.path_url, headers, body.encode() if isinstance(body, str) else bytes(body))
    except Exception:
        return None


def scalars() -> st.SearchStrategy[Any]:
    odd: tuple[Any, ...] = (2**63, -(2**63) - 1, 10**400, 1e308, -0.0, float("nan"), float("inf"), "", "\0", "\ud800")
    return st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(odd)


def values() -> st.SearchStrategy[Any]:
    """Any JSON, and what only Python calls JSON."""
    names = st.sampled_from(("id", "task", "project", "result", "text", "value", "from_name", "type", "data"))
    inner = lambda parts: st.lists(parts, max_size=4) | st.dictionaries(names | st.text(max_size=9), parts, max_size=4)  # noqa: E731
    return st.recursive(scalars(), inner, max_leaves=12)


@cache
def bodies() -> tuple[tuple[str, dict[str, Any]], ...]:
    """Path and body of Label Studio's own requests."""
    caption = {"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": ["a dot"]}}
    annotation = {"id": 1, "task": 1, "project": PROJECT, "updated_at": "2026-01-01T00:00:00Z", "result": [caption]}
    annotation |= {"was_cancelled": False, "ground_truth": False, "lead_time": 3.5, "completed_by": {"id": 1}}
    project = {"id": PROJECT, "label_config": labeling_config.shipped("caption")}
    tasks = [{**task(number, "data:image/png;base64,"), "created_at": "2026-01-01T00:00:00Z"} for number in (1, 2)]
    event = {"project": project, "task": tasks[0], "annotation": annotation}
    hint = {**caption, "from_name": "hint", "value": {"text": ["a"]}}
    return (
        ("/setup", setup_request()),
        ("/predict", {**predict_request(tasks), "params": {"context": {"result": [hint]}}}),
        *(("/webhook", {"action": action, **event}) for action in sorted(ACTIONS)),
        ("/versions", {"project": f"{PROJECT}.1"}),
        ("/cancel-training", {"project": PROJECT}),
    )


@st.composite
def changed(draw: st.DrawFn) -> Sent:
    """A body of Label Studio in which up to two places hold something else."""
    path, body = copy.deepcopy(draw(st.sampled_from(bodies())))
    for _ in range(draw(st.integers(0, 2))):
        places = list(_places(body))
        owner, key = places[draw(st.integers(0, len(places) - 1))]
        owner[key] = draw(values() | configs() | references())
    return Sent("POST", path, (("Content-Type", "application/json"),), json.dumps(body).encode())


def _places(value: Any) -> Any:
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


@st.composite
def configs(draw: st.DrawFn) -> str:
    """A labelling config of ours with something in it that is not XML, or not meant."""
    text = labeling_config.shipped(draw(st.sampled_from(("caption", "review", "guided", "multi_caption"))))
    place = draw(st.integers(0, len(text)))
    odd = ("<", "&lol;", "<!DOCTYPE x [<!ENTITY a 'b'>]>", "]]>", "\0", '"', "<Repeater>", "<View>" * 200, "$image")
    return text[:place] + draw(st.sampled_from(odd) | st.text(max_size=8)) + text[place + draw(st.integers(0, 40)) :]


@st.composite
def references(draw: st.DrawFn) -> str:
    """The address of an image: forbidden, malformed, or itself a damaged image."""
    if draw(st.booleans()):
        return draw(st.sampled_from(FORBIDDEN) | st.text(max_size=40))
    [(_, content)] = mutated(1, draw(st.integers(0, 2**32)), draw(st.integers(0, 99)))
    return "data:image/png;base64," + base64.b64encode(content).decode()


@st.composite
def drafted(draw: st.DrawFn) -> Sent:
    """/predict with hostile images."""
    tasks = [task(number, draw(references())) for number in range(draw(st.integers(0, 2)))]
    return Sent(
        "POST", "/predict", (("Content-Type", "application/json"),), json.dumps(predict_request(tasks)).encode()
    )


@st.composite
def malformed(draw: st.DrawFn) -> Sent:
    """Any method, path, headers and bytes."""
    path = draw(st.sampled_from(PATHS) | st.sampled_from(bodies()).map(lambda each: each[0]) | st.text().map(_path))
    texts = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
    headers = draw(st.lists(st.tuples(st.sampled_from(HEADERS), texts), max_size=4))
    deep = st.sampled_from(("[" * 5000, '{"a":' * 3000, '{"project":1,' * 50, '"' * 99, "NaN", '{"project": 1e999}'))
    body = draw(st.binary(max_size=200) | deep.map(str.encode) | values().map(lambda each: json.dumps(each).encode()))
    return Sent(draw(st.sampled_from(METHODS)), path, tuple(headers), body)


@st.composite
def broken(draw: st.DrawFn) -> Sent:
    """What is no HTTP: lengths and chunks that are not true, header lines that are none."""
    head = draw(
        st.sampled_from(
            (
                "Transfer-Encoding: chunked\r\n",
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                "Transfer-Encoding: gzip, chunked\r\n",
                "Content-Length: 99\r\n",
                "Content-Length: -1\r\n",
                "Content-Length: 1\r\nContent-Length: 2\r\n",
                "Expect: 100-continue\r\nContent-Length: 2\r\n",
                "no colon\r\n",
                "A: " + "b" * 9000 + "\r\n",
                "\0: \0\r\n",
            )
        )
    )
    chunks = ("2\r\n{}\r\n0\r\n\r\n", "ffffffffffffffff\r\n", "2;=\r\n{}\r\n0\r\n\r\n", "-1\r\n", "zz\r\n{}", "2\r\n{}")
    body = draw(st.sampled_from(chunks).map(str.encode) | st.binary(max_size=60))
    path = draw(st.sampled_from(("/webhook", "/predict", "/setup", "/versions", "/health")))
    return Sent("POST", path, (), head.encode("latin-1") + b"\r\n" + body, raw=True)


@st.composite
def strange(draw: st.DrawFn) -> Sent:
    """Credentials that are wrong or none."""
    coded = st.binary(max_size=30).map(lambda each: "Basic " + base64.b64encode(each).decode())
    ascii_ = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
    given = draw(coded | ascii_ | ascii_.map(lambda each: f"Bearer {each}") | ascii_.map(lambda each: f"Basic {each}"))
    sent = draw(changed())
    return replace(sent, headers=(*sent.headers, ("Authorization", given)))


def all_kinds(document: Mapping[str, Any]) -> st.SearchStrategy[Sent]:
    """Requests of every kind, about as many of each."""
    return st.one_of(by_schema(document), changed(), drafted(), malformed(), broken(), strange())


def _path(text: str) -> str:
    return "/" + quote(text, errors="replace")
