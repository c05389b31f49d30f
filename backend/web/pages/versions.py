"""The page of a model version: where it comes from, what the gate decided, what it drafts, and what words attend to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flask import Blueprint, abort, render_template, send_file, url_for
from flask.typing import ResponseReturnValue

from backend.domain.errors import RegistryError
from backend.reports import lineage
from backend.reports.overview.gallery import examples as corrected
from backend.reports.overview.project import made_champion
from backend.reports.overview.verdicts import verdict as in_words
from backend.retraining import examples
from backend.store.registry import ModelVersion
from backend.web.pages.answers import NAME, PROJECT
from backend.web.services import Services
from training.errors import TrainingError
from training.gate.verdict import Verdict

WORST = 6
"""Pairs that are shown of those on which it lost most."""


def version_of(services: Services, project_id: int, name: str) -> ModelVersion:
    """A version that may serve the project. Raises NotFound or RegistryError where there is none."""
    check_project(services, project_id)
    version = services.registry.get(name)
    if version.project_id not in {None, project_id}:
        raise RegistryError(f"Version {name!r} was trained for project {version.project_id}, not for {project_id}.")
    return version


def check_project(services: Services, project_id: int) -> None:
    if services.store.get_project(project_id) is None:
        abort(404, f"There is no project {project_id} here.")


def add(blueprint: Blueprint, services: Services) -> None:
    registry = services.registry

    @blueprint.get(f"{PROJECT}/versions/<path:name>")
    def version(project_id: int, name: str) -> str:
        found = version_of(services, project_id, name)
        facts, parents = lineage.facts(registry, found), services.store.version_parents(project_id)
        try:
            verdict = Verdict.from_json(found.verdict) if found.verdict else None
        except TrainingError:  # of another release, which its words say
            verdict = None
        worst = [(each.name, pair) for each in verdict.sets for pair in each.worst] if verdict else []
        return render_template(
            "version.html",
            project={"id": project_id},
            about=name,
            version=found,
            address=lambda other: url_for(f"{NAME}.version", project_id=project_id, name=other),
            standing=_standing(services, project_id, name),
            ancestors=list(_ancestors(parents, name)),
            children=[each for each, parent in parents.items() if parent == name][::-1],
            facts=[*lineage.origin(facts), *(("champion", term["text"]) for term in facts["champion"])],
            verdict=verdict,
            words=in_words(registry, found),
            worst=worst[:WORST],
            drafts=corrected(services.store, project_id, version=name),
            found=examples.load(found.checkpoint),
        )

    @blueprint.get(f"{PROJECT}/attention/<int:number>/<path:name>")
    def attention(project_id: int, number: int, name: str) -> ResponseReturnValue:
        file = examples.picture(version_of(services, project_id, name).checkpoint, number)
        if file is None:
            abort(404, f"{name} has no such attention maps.")
        response = send_file(file, "image/jpeg", max_age=3600)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "private, max-age=3600"
        return response


def _ancestors(parents: Mapping[str, str | None], name: str) -> Iterator[str]:
    """The version's parent, that one's, and so on."""
    while parent := parents.get(name):
        yield parent
        name = parent


def _standing(services: Services, project_id: int, name: str) -> str:
    """Whether the version serves the project, in the words of `captioner status`."""
    champion = services.registry.champion(project_id)
    loaded = services.champions.serving(project_id)
    if champion is None or champion.name != name:
        return f"It does not serve project {project_id}; {champion.name if champion else 'nothing'} does."
    if loaded == name:
        return f"It serves project {project_id}."
    owner, _ = made_champion(services.registry, project_id, champion)
    still = f"; {loaded} still serves" if loaded else ""
    if problem := services.champions.refused().get(owner):
        return f"It is the champion of project {project_id} and not served: {problem.rstrip('.')}{still}."
    return f"It is the champion of project {project_id} and loading{still}."
