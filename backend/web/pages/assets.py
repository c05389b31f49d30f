"""The files that pages need: style, script, icon. Their addresses hold a hash, so that browsers keep them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from flask import Blueprint, Response, abort, request, url_for

from backend.reports import charts
from backend.web.pages.answers import NAME

FOLDER = Path(__file__).parent / "assets"
KINDS = {"page.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}
KEPT = "private, max-age=31536000, immutable"


def add(blueprint: Blueprint) -> None:
    @blueprint.get("/pages/<name>")
    def asset(name: str) -> Response:
        if name not in KINDS:
            abort(404)
        response = Response(_content(name), content_type=f"{KINDS[name]}; charset=utf-8")
        # of another release's page: what it gets must not be kept under that release's address
        response.headers["Cache-Control"] = KEPT if request.args.get("v") == _hash(name) else "no-cache"
        return response

    @blueprint.app_template_global("asset")
    def address(name: str) -> str:
        return url_for(f"{NAME}.asset", name=name, v=_hash(name))


@cache
def _content(name: str) -> str:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return text + str(charts.STYLE) if name == "page.css" else text


@cache
def _hash(name: str) -> str:
    return hashlib.sha256(_content(name).encode()).hexdigest()[:16]
