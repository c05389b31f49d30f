"""The HTTP API described from the routes of the Flask application, the schemas of their bodies and their errors.

Pages for people are left out: they are no interface for programs, and may change with every release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from inspect import cleandoc
from typing import Any

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from backend.web.openapi import bodies
from backend.web.routes import WITHOUT_PASSWORD

API = "captioner."
"""Endpoints of the API begin so; those of pages do not."""
DEFINITIONS = "#/components/schemas/"

ERRORS = {
    400: "The request is malformed, or its labelling config is not one for captions.",
    401: "The password or token is missing or wrong.",
    403: "The token may only read, or a page of another site sent the request.",
    413: "The body is too large.",
    429: "Too many different wrong passwords or tokens came from this address: ask again after `Retry-After` seconds.",
    500: "Something failed inside; the log of the backend has the details.",
    503: "The database cannot be used, or too many images wait: ask again, after `Retry-After` seconds if it is given.",
}


@dataclass(frozen=True)
class Operation:
    """What one endpoint takes and answers; with `answer` None a text. `unready` is what its 503 means, if another."""

    summary: str
    answer: type[BaseModel] | None
    request: type[BaseModel] | None = None
    by_project: bool = False  # GET takes ?project=
    unready: str = ""


OPERATIONS = {
    "health": Operation("whether the process runs", bodies.HealthAnswer),
    "ready": Operation(
        "whether it should be sent requests",
        bodies.ReadyAnswer,
        unready="The champions are being loaded, or one of them cannot be.",
    ),
    "setup": Operation(
        "connect a project, and name the version that drafts it", bodies.SetupAnswer, bodies.SetupRequest
    ),
    "predict": Operation("draft tasks, or complete a caption from a hint", bodies.PredictAnswer, bodies.PredictRequest),
    "webhook": Operation("take in an event of Label Studio", bodies.WebhookAnswer, bodies.WebhookRequest),
    "versions": Operation("list model versions", bodies.VersionsAnswer, bodies.VersionsRequest, by_project=True),
    "serving": Operation("which versions are loaded", bodies.ServingAnswer),
    "prometheus": Operation("metrics for Prometheus", None),
    "train_status": Operation("how far retrains are", bodies.TrainStatusAnswer, by_project=True),
    "cancel_training": Operation("cancel the retrain of a project", bodies.CancelAnswer, bodies.CancelRequest),
    "openapi": Operation("this description", None),
}
"""By endpoint."""


def document(app: Flask, schemes: Sequence[str]) -> dict[str, Any]:
    """The description of the application, which lets in by one of these schemes: `basic`, `bearer`. None: anybody."""
    paths: dict[str, dict[str, Any]] = {}
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if rule.endpoint.startswith(API):
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                described = _operation(rule.endpoint.removeprefix(API), method, schemes)
                paths.setdefault(rule.rule, {})[method.lower()] = described
    secured = {"securitySchemes": {name: {"type": "http", "scheme": name} for name in schemes}} if schemes else {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Label Studio Captioner",
            "version": version("label-studio-captioner"),
            "description": "The ML backend of Label Studio that drafts captions. Bodies are JSON.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": _schemas()} | secured,
    }


def _operation(name: str, method: str, schemes: Sequence[str]) -> dict[str, Any]:
    operation, is_open = OPERATIONS[name], API + name in WITHOUT_PASSWORD
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if operation.answer:
        content = _json(operation.answer)
    elif name == "openapi":
        content = {"application/json": {"schema": {"type": "object"}}}
    answered = cleandoc(operation.answer.__doc__ or "") if operation.answer else operation.summary.capitalize() + "."
    found: dict[str, Any] = {
        "operationId": name if method == "POST" or not operation.request else f"{name}_{method.lower()}",
        "summary": operation.summary,
        "responses": {"200": {"description": answered, "content": content}}
        | {str(status): _error(status, operation) for status in _statuses(operation, method, is_open, schemes)},
    }
    if method == "POST" and operation.request:
        found["requestBody"] = {"required": True, "content": _json(operation.request)}
    if method == "GET" and operation.by_project:
        schema = {"type": "string", "pattern": r"^0*[1-9]\d*(\.|$)"}
        about = "the number of a project; without it, all projects"
        found["parameters"] = [{"name": "project", "in": "query", "description": about, "schema": schema}]
    if schemes and not is_open:
        found["security"] = [{scheme: []} for scheme in schemes]
    return found


def _statuses(operation: Operation, method: str, is_open: bool, schemes: Sequence[str]) -> Iterator[int]:
    takes_body = method == "POST" and operation.request is not None
    if takes_body or operation.by_project:
        yield 400
    if schemes and not is_open:
        yield from (401, 429)
    if method == "POST":
        yield 403
    if takes_body:
        yield 413
    if operation.unready:
        yield 503
    elif not is_open:
        yield from (500, 503)


def _error(status: int, operation: Operation) -> dict[str, Any]:
    text = operation.unready if status == 503 and operation.unready else ERRORS[status]
    return {"description": text, "content": _json(bodies.ErrorAnswer)}


def _json(body: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": DEFINITIONS + body.__name__}}}


@cache
def _schemas() -> Mapping[str, Any]:
    """The schemas of all bodies, which say the same of requests and answers."""
    used: Sequence[type[BaseModel] | None] = [
        body for each in OPERATIONS.values() for body in (each.answer, each.request)
    ]
    models = [body for body in (*used, bodies.ErrorAnswer) if body]
    _, schema = models_json_schema([(body, "validation") for body in models], ref_template=DEFINITIONS + "{model}")
    return dict(schema["$defs"])
