"""Whether a request is answered with a page, how errors look on one, and what browsers may do with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from flask import Flask, Response, render_template, request
from flask.typing import ResponseReturnValue
from jinja2 import StrictUndefined
from markupsafe import Markup

from backend.label_studio.payload import GREATEST_ID
from backend.reports.progress import PHASES, duration, phase_text, seconds_since
from training.runtime.console import counted

NAME = "pages"
"""Of the blueprint."""
PROJECT = f"/projects/<int(max={GREATEST_ID}):project_id>"
"""Where the pages of a project begin; databases know no greater number."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",  # captions are nobody else's business
}
"""Of every page: nothing comes from elsewhere, and no script or style stands in the page itself."""


def prepare(app: Flask) -> None:
    """What all templates share, the headers of pages, and the one of every answer."""
    app.jinja_options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    app.jinja_env.filters.update(
        duration=duration,
        counted=counted,
        phase=phase_text,
        phase_name=lambda phase: PHASES.get(phase, phase),
        moment=moment,
        ago=lambda at: f"{duration(seconds_since(at))} ago",
        code=code,
    )

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers["X-Content-Type-Options"] = "nosniff"
        if response.mimetype == "text/html":
            response.headers.update(HEADERS)
        return response


def moment(at: datetime) -> Markup:
    """A time that programs read too."""
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M} UTC")


def code(text: str) -> Markup:
    """A sentence in which `backticks` mark commands."""
    parts = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def wants_page() -> bool:
    """Whether a browser asks. Label Studio, its clients and `curl` take anything, and get JSON."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > accepted["application/json"]


def error(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> ResponseReturnValue:
    """The sentence as JSON, or as a page where a browser asked for one."""
    if request.blueprint in {None, NAME} and wants_page():
        return render_template("error.html", sentence=sentence, status=status), status, dict(headers or {})
    return {"error": sentence}, status, dict(headers or {})
