"""The overview of all projects, the page of each, what of it changes, and thumbnails of its images."""

from __future__ import annotations

from flask import Blueprint, Response, abort, render_template, url_for
from flask.typing import ResponseReturnValue

from backend.images import thumbnails
from backend.reports.overview import project as reports
from backend.reports.overview.project import Now, Serving
from backend.store.totals import MOST_WAITING, Totals
from backend.web.pages.answers import NAME, PROJECT, wants_page
from backend.web.pages.assets import KEPT
from backend.web.services import Services


def add(blueprint: Blueprint, services: Services) -> None:
    store = services.store

    @blueprint.get("/")
    def overview() -> ResponseReturnValue:
        """For a browser the overview, for everybody else the answer of /health; unlike that it needs the password."""
        varies = {"Vary": "Accept"}
        if not wants_page():
            return {"status": "UP", "model_class": "CaptionerModel"}, varies
        return render_template("overview.html", projects=_now(store.totals())), varies

    @blueprint.get(PROJECT)
    def project(project_id: int) -> str:
        found = of(project_id)
        whole = reports.whole(services.registry, project_id)
        parts = {"whole": whole, "charts": whole.charts(project_id)}
        return render_template("project.html", project=found, most_waiting=MOST_WAITING, **parts)

    @blueprint.get(f"{PROJECT}/now")
    def now(project_id: int) -> str:
        """The parts of the page that change, for the script that shows them."""
        return render_template("now.html", project=of(project_id), most_waiting=MOST_WAITING)

    @blueprint.get("/images/<sha256>")
    def image(sha256: str) -> Response:
        path = thumbnails.here(services.settings.data_dir, sha256)
        small = path and thumbnails.thumbnail(path)
        if not small:
            abort(404, "This image is not kept here.")
        return Response(small, content_type="image/jpeg", headers={"Cache-Control": KEPT})

    def of(project_id: int) -> Now:
        totals = store.totals(project_id)
        if not totals:
            abort(404, f"There is no project {project_id} here.")
        return _now(totals)[0]

    def _now(totals: list[Totals]) -> list[Now]:
        jobs = reports.queued(services.queue)
        serving = Serving(services.champions.assigned(), services.champions.refused())
        return [reports.now(services.settings, services.registry, jobs, serving, each) for each in totals]

    @blueprint.app_template_global("thumbnail")
    def thumbnail(sha256: str | None) -> str | None:
        known = thumbnails.here(services.settings.data_dir, sha256)
        return url_for(f"{NAME}.image", sha256=sha256) if known else None
