"""Moves of a project's champion in words: which version has served when, what a person is asked, what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from backend.store.registry import DEFAULT, ModelVersion, Move, Registry

ALL = 10_000
"""Moves of a project."""


@dataclass(frozen=True)
class Term:
    """A time in which a version was the champion of a project, from one move to the next; `ended` None: it still is."""

    project_id: int
    began: Move
    ended: Move | None

    def __str__(self) -> str:
        said = f"{_at(self.began)}, {_by(self.began)}: {self.began.reason}"
        return f"{said}; until {_at(self.ended)}, {_by(self.ended)}: {self.ended.reason}" if self.ended else said


def terms(registry: Registry, version: ModelVersion) -> list[Term]:
    """When the version has been the champion of a project, by project, and for DEFAULT of all without their own."""
    every = [DEFAULT, *(project.id for project in registry.store.projects())]
    return [
        Term(project_id, *both)
        for project_id in ([version.project_id] if version.project_id is not None else every)
        for both in _terms(registry.moves(project_id, ALL)[::-1], version.name)
    ]


def whom(project_id: int) -> str:
    return f"project {project_id}" if project_id else "every project without one of its own"


def promoted(version: str, project_id: int) -> str:
    return f"{version} is now the champion of {whom(project_id)}."


def rolled_back(serving: str | None, project_id: int) -> str:
    return f"{serving} serves {_served(project_id)} again." if serving else f"Nothing serves {_served(project_id)} now."


def nothing_before(champion: str, project_id: int) -> str:
    """What a rollback means that leaves a project without a model."""
    return f"Nothing served {_served(project_id)} before {champion}: without it, tasks open with empty text boxes."


def _served(project_id: int) -> str:
    return whom(project_id) if project_id else "projects without a champion of their own"


def _terms(moves: Iterable[Move], name: str) -> Iterator[tuple[Move, Move | None]]:
    began: Move | None = None
    for move in moves:
        if began is not None:
            yield began, move
        began = move if move.version == name else None
    if began is not None:
        yield began, None


def _at(move: Move) -> str:
    return f"{move.moved_at:%Y-%m-%d %H:%M} UTC"


def _by(move: Move) -> str:
    return f"by {move.moved_by}"
