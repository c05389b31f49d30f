"""Promotion and rollback on the status page: a page asks first, and says what serves now and what will serve.

They are the moves of `captioner promote` and `captioner rollback`. Without a password for the backend nobody is asked
who they are, so then the pages name these commands instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from backend.domain.errors import CaptionerError, ForbiddenError, OvertakenError, RegistryError
from backend.reports.overview import moves
from backend.reports.overview.verdicts import verdict
from backend.store.registry import ModelVersion
from backend.system.typed import typed
from backend.web import body
from backend.web.pages import forms
from backend.web.pages.answers import NAME, PROJECT
from backend.web.pages.versions import check_project, version_of
from backend.web.services import Services
from training.captioner import checkpoint
from training.errors import TrainingError

BY = "status page"
NO_PASSWORD = (
    "Who may promote and roll back is not known here, because BASIC_AUTH_USER and BASIC_AUTH_PASS are not set; "
    "nothing was changed."
)
MEANWHILE = "It is loaded first, which takes some seconds; {} serves until then."
NOBODY = ""
"""In a form, in place of the name of a version."""


@dataclass(frozen=True)
class Action:
    """What a page offers: its name, the page that asks about it, and the command that does the same."""

    label: str
    address: str
    command: str


def add(blueprint: Blueprint, services: Services) -> None:
    registry, data_dir = services.registry, services.settings.data_dir
    basic = services.settings.basic_auth

    def promotion(version: str, project_id: int) -> Action:
        command = typed(data_dir, "promote", version, "--project", str(project_id))
        address = url_for(f"{NAME}.promote", project_id=project_id, name=version)
        return Action(f"Promote {version}", address, command)

    def rollback_of(project_id: int, before: str | None) -> Action:
        command = typed(data_dir, "rollback", "--project", str(project_id))
        address = url_for(f"{NAME}.rollback", project_id=project_id)
        return Action(f"Roll back to {before or 'nothing'}", address, command)

    @blueprint.app_template_global("actions")
    def offered(project_id: int, version: str | None = None) -> list[Action]:
        """What can be done about the project, or, where one is named, about a version of it.

        Of the project, a version that passed the gate and waits for a person may be promoted.
        """
        champion = registry.champion(project_id)
        if version is not None and (champion is None or champion.name != version):
            return [promotion(version, project_id)]
        newest = registry.versions(project_id, limit=1) if version is None else []
        waiting = [each.name for each in newest if verdict(registry, each).outcome == "passed"]
        promotions = [promotion(each, project_id) for each in waiting]
        try:
            _, before = registry.before(project_id)
        except RegistryError:  # no champion of its own
            return promotions
        return [*promotions, rollback_of(project_id, before)]

    @blueprint.app_template_global("asks_for_password")
    def asks_for_password() -> bool:
        return basic is not None

    @blueprint.app_template_global("moved")
    def moved(project_id: int) -> tuple[str, Action | None] | None:
        """After an action of this page, what came of it and what undoes it. It is read from the moves themselves."""
        done = request.args.get("moved")
        newest, *earlier = [*registry.moves(project_id, limit=2), None]
        if newest is None or newest.moved_by != BY or done not in {"promoted", "rolled-back"}:
            return None
        if done == "promoted" and newest.version:
            return moves.promoted(newest.version, project_id), rollback_of(project_id, registry.before(project_id)[1])
        serving, undone = registry.champion(project_id), earlier[0] if earlier else None
        sentence = moves.rolled_back(serving.name if serving else None, project_id)
        return sentence, promotion(undone.version, project_id) if undone and undone.version else None

    @blueprint.get(f"{PROJECT}/promote/<path:name>")
    def promote(project_id: int, name: str) -> ResponseReturnValue:
        version, champion = version_of(services, project_id, name), registry.champion(project_id)
        serving = champion.name if champion else NOBODY
        if serving == name:
            raise OvertakenError(f"{name} is the champion of {moves.whom(project_id)} already.")
        return render_template(
            "confirm.html",
            project={"id": project_id},
            title=f"Let {name} serve project {project_id}?",
            now=_serves_now(serving, project_id),
            then=f"{name} will serve it, for every draft from then on.",
            judged=verdict(registry, version),
            note=MEANWHILE.format(serving) if serving else "",
            problem=_problem(services, version),
            action=promotion(name, project_id),
            button=f"Promote {name}",
            fields=_fields("promote", project_id, serving, name),
        )

    @blueprint.post(f"{PROJECT}/promote/<path:name>")
    def promoted(project_id: int, name: str) -> ResponseReturnValue:
        form = _checked("promote", project_id, after=name)
        version = version_of(services, project_id, name)
        _refuse(_problem(services, version))
        try:
            registry.promote(project_id, name, reason=_reason(form), by=BY, instead_of=form["before"] or None)
        except RegistryError as error:
            champion = registry.champion(project_id)
            raise OvertakenError(_overtaken(champion.name if champion else None, project_id)) from error
        return _done(project_id, "promoted")

    @blueprint.get(f"{PROJECT}/rollback")
    def rollback(project_id: int) -> ResponseReturnValue:
        champion, before = _undoable(project_id)
        then = f"{before} will serve it again, for every draft from then on." if before else "Nothing will serve it."
        return render_template(
            "confirm.html",
            project={"id": project_id},
            title=f"Take {champion} back?",
            now=_serves_now(champion, project_id),
            then=then,
            judged=None,
            note="" if before else moves.nothing_before(champion, project_id),
            problem=_problem(services, registry.get(before)) if before else "",
            action=rollback_of(project_id, before),
            button=f"Roll back to {before}" if before else "Roll back to nothing",
            fields=_fields("rollback", project_id, champion, before or NOBODY),
        )

    @blueprint.post(f"{PROJECT}/rollback")
    def rolled_back(project_id: int) -> ResponseReturnValue:
        form = _checked("rollback", project_id)
        champion, before = _undoable(project_id)
        if (champion, before or NOBODY) != (form["before"], form["after"]):
            raise OvertakenError(_overtaken(champion, project_id))
        _refuse(_problem(services, registry.get(before)) if before else "")
        try:
            registry.rollback(project_id, reason=_reason(form, "rolled back"), by=BY, of=champion)
        except RegistryError as error:
            raise OvertakenError(str(error)) from error
        return _done(project_id, "rolled-back")

    def _fields(what: str, project_id: int, before: str, after: str) -> dict[str, str]:
        """What the form of a page holds, where there is one: which version served when it asked, and which will."""
        if basic is None:
            return {}
        token = forms.token(forms.key(*basic), what, str(project_id), before, after)
        return {"before": before, "after": after, "token": token}

    def _checked(what: str, project_id: int, **known: str) -> dict[str, str]:
        """The form that was sent, with what is known from its address. Raises ForbiddenError unless a page of ours
        asked exactly this."""
        if basic is None:
            raise ForbiddenError(NO_PASSWORD)
        form = {"before": NOBODY, "after": NOBODY, "token": "", **body.form(), **known}
        forms.check(forms.key(*basic), form["token"], what, str(project_id), form["before"], form["after"])
        return form

    def _undoable(project_id: int) -> tuple[str, str | None]:
        check_project(services, project_id)
        try:
            return registry.before(project_id)
        except RegistryError as error:
            raise OvertakenError(str(error)) from error

    def _done(project_id: int, what: str) -> ResponseReturnValue:
        return redirect(url_for(f"{NAME}.project", project_id=project_id, moved=what), 303)


def _serves_now(serving: str | None, project_id: int) -> str:
    return f"{serving or 'Nothing'} serves project {project_id} now."


def _problem(services: Services, version: ModelVersion) -> str:
    """Why the version cannot serve, as far as its files show; empty where nothing does."""
    try:
        services.sharing.fetch_checkpoint(version.checkpoint)
        checkpoint.check_whole(version.checkpoint, version.digest)
    except (CaptionerError, TrainingError) as error:
        return f"{version.name} cannot serve: {error}"
    return ""


def _refuse(problem: str) -> None:
    if problem:
        raise OvertakenError(f"{problem} Nothing was changed.")


def _overtaken(serving: str | None, project_id: int) -> str:
    return f"{serving or 'Nothing'} has come to serve project {project_id} since you were asked; nothing was changed."


def _reason(form: Mapping[str, str], otherwise: str = "by an operator") -> str:
    return " ".join(form.get("reason", "").split())[:200] or otherwise
