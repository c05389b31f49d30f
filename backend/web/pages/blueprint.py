"""The pages as one part of the Flask application. Each module adds its own."""

from __future__ import annotations

from flask import Blueprint

from backend.web.pages import actions, assets, versions, views
from backend.web.pages.answers import NAME
from backend.web.services import Services


def pages(services: Services) -> Blueprint:
    """Every page, and the files that pages need."""
    blueprint = Blueprint(NAME, __name__, template_folder="templates")
    for module in (views, versions, actions):
        module.add(blueprint, services)
    assets.add(blueprint)
    return blueprint
