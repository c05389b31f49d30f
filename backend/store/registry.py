"""Model versions and, for each project, which one is its champion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from backend.domain.errors import RegistryError
from backend.store.database import now
from backend.store.keeping.paths import FILES, located, named
from backend.store.store import Store
from backend.store.tables import alias_moves, model_versions
from backend.store.totals import newest_versions
from training.captioner.checkpoint import digest

PASSED, HELD, REJECTED = "passed", "held", "rejected"
"""States that follow from the gate's verdict. The corrections first learnt by a rejected version are quarantined."""
RELEASED, DROPPED = "released", "dropped"
"""States an operator gives a rejected version: its corrections may be learnt again, or never."""
REGISTERED = "registered"
"""State of a version that no gate has judged."""
NEW = "new.jsonl"
"""The file beside a snapshot's manifest with the captions that its candidate was the first to learn, as rows."""
DEFAULT = 0
"""The project id whose champion serves projects without one of their own."""


class Whoever(Enum):
    """In place of the name of the version that must serve: a promotion is wanted whichever does. None is nobody."""

    SERVES = "serves"


@dataclass(frozen=True)
class ModelVersion:
    """A checkpoint under a name.

    `project_id` None: it may serve any project. `parent` is what it was trained from and compared with, `manifest` the
    file of its training rows, `snapshot` names the corrections frozen for it, `state` is one of the constants above,
    `digest` its checkpoint's when it was registered (None: by an earlier release).
    """

    name: str
    checkpoint: Path
    project_id: int | None = None
    parent: str | None = None
    manifest: Path | None = None
    snapshot: str | None = None
    verdict: dict[str, Any] | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    state: str = REGISTERED
    created_at: datetime = field(default_factory=now)
    digest: str | None = None

    @property
    def new_captions(self) -> Path | None:
        """The file with the captions that it was the first to learn, if it has a manifest."""
        return self.manifest and self.manifest.with_name(NEW)


@dataclass(frozen=True)
class Move:
    """One move of a project's champion alias; `version` None: back to the default champion."""

    version: str | None
    reason: str
    moved_by: str
    moved_at: datetime


class Registry:
    """Rows of versions and of moves of champion aliases. Loads no model."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def register(self, version: ModelVersion) -> ModelVersion:
        """Add a version with the digest of its checkpoint. Raises RegistryError when the name is taken."""
        version = replace(version, digest=digest(version.checkpoint))
        files = {each: named(getattr(version, each), self.store.data_dir) for each in FILES}
        with self.store.writing(version.project_id or DEFAULT) as connection:
            if _find(connection, version.name) is not None:
                raise RegistryError(f"There is a version {version.name!r} already; choose another name.")
            decision = (version.verdict or {}).get("decision")
            connection.execute(model_versions.insert().values(**vars(version) | files, decision=decision))
        return version

    def get(self, name: str) -> ModelVersion:
        """Raises RegistryError when there is no version of that name."""
        with self.store.reading() as connection:
            return self._get(connection, name)

    def of_snapshot(self, project_id: int, snapshot: str) -> ModelVersion | None:
        """The newest version trained on a snapshot of the project."""
        return next((version for version in self.versions(project_id) if version.snapshot == snapshot), None)

    def versions(self, project_id: int | None = None, limit: int | None = None, *states: str) -> list[ModelVersion]:
        """Newest first: all versions, or those that may serve a project; of any state, or of these."""
        found = model_versions.c
        some: list[sa.ColumnElement[bool]] = [found.state.in_(states)] if states else []
        if project_id is not None and limit is not None:
            some = [found.name.in_(newest_versions(project_id, limit, *some))]
        elif project_id is not None:
            some.append((found.project_id == project_id) | found.project_id.is_(None))
        newest = sa.select(model_versions).where(*some).order_by(found.created_at.desc(), found.name).limit(limit)
        with self.store.reading() as connection:
            return [self._version(row) for row in connection.execute(newest)]

    def lineage(self, version: ModelVersion | None) -> Iterator[ModelVersion]:
        """The version and its ancestors, back to the first."""
        while version is not None:
            yield version
            version = self.get(version.parent) if version.parent else None

    def next_name(self, project_id: int) -> str:
        """`p<project>-v<n>`, the next number not registered yet."""
        prefix = f"p{project_id}-v"
        numbers = [name.removeprefix(prefix) for name in self.store.version_names() if name.startswith(prefix)]
        return f"{prefix}{max((int(number) for number in numbers if number.isdigit()), default=0) + 1}"

    def promote(
        self,
        project_id: int,
        version: str,
        reason: str,
        by: str,
        *,
        instead_of: str | Whoever | None = Whoever.SERVES,
    ) -> None:
        """Make it the project's champion. Promoting the champion again changes nothing.

        With `instead_of`, only while that version still serves the project, with None only while nobody does. Raises
        RegistryError when there is no such version, it belongs to another project, or another version serves by now.
        """
        with self.store.writing(project_id) as connection:
            promoted = self._get(connection, version)
            if promoted.project_id not in (None, project_id):
                trained_for = f"was trained for project {promoted.project_id} and cannot serve {project_id}"
                raise RegistryError(f"Version {version!r} {trained_for}.")
            current = _newest_move(connection, project_id)
            if current is not None and current.version == version:
                return
            serving = _champion_name(connection, project_id)
            if instead_of is not Whoever.SERVES and serving != instead_of:
                judged = "judged as a first model" if instead_of is None else f"compared with {instead_of!r}"
                raise RegistryError(
                    f"Version {version!r} was {judged}, but {_named(serving)} has come to serve project {project_id} "
                    "since; promote it by hand if it is still wanted."
                )
            _move(connection, project_id, version, current.id if current is not None else None, reason, by)

    def take_back(self, project_id: int, version: str, *, to: str, reason: str, by: str = "gate") -> None:
        """Serve `to` again in place of `version`, which was compared with it and is worse.

        A rollback then goes to what served before `to`. Raises RegistryError when another version serves by now.
        """
        with self.store.writing(project_id) as connection:
            serving = _champion_name(connection, project_id)
            if serving != version:
                raise RegistryError(
                    f"Version {version!r} is worse than {to!r}, but {_named(serving)} has come to serve project "
                    f"{project_id} since, and stays."
                )
            current = earlier = _newest_move(connection, project_id)
            while earlier is not None and earlier.version != to:
                earlier = _previous_move(connection, earlier)
            if earlier is None and to == _champion_name(connection, DEFAULT):
                _move(connection, project_id, None, None, reason, by)
                return
            below = earlier or current  # `to` may have served as a default that is none any more
            _move(connection, project_id, to, below.previous_id if below is not None else None, reason, by)

    def replace_verdict(self, name: str, verdict: dict[str, Any]) -> None:
        """Store a new verdict on the version in place of its earlier one."""
        with self.store.writing(self.get(name).project_id or DEFAULT) as connection:
            judged = {"verdict": verdict, "decision": verdict.get("decision")}
            connection.execute(model_versions.update().where(model_versions.c.name == name).values(**judged))

    def decide(self, name: str, state: str) -> ModelVersion:
        """Set an operator's decision on a rejected version: RELEASED or DROPPED; either may be changed later.

        Raises RegistryError when there is no such version or it was not rejected.
        """
        version = self.get(name)
        with self.store.writing(version.project_id or DEFAULT) as connection:
            version = self._get(connection, name)
            if version.state not in {REJECTED, RELEASED, DROPPED}:
                raise RegistryError(f"Version {name!r} was not rejected ({version.state}): nothing is quarantined.")
            connection.execute(model_versions.update().where(model_versions.c.name == name).values(state=state))
        return version

    def before(self, project_id: int) -> tuple[str, str | None]:
        """The project's own champion, and what a rollback lets serve in its place: None where nothing would.

        Before a project's first champion of its own, the default one served. Raises RegistryError when the project has
        no champion of its own.
        """
        with self.store.reading() as connection:
            current, previous = _moves_to_undo(connection, project_id)
            default = _newest_move(connection, DEFAULT) if project_id != DEFAULT else None
            return current.version, (previous and previous.version) or (default and default.version)

    def rollback(
        self, project_id: int, reason: str = "rolled back", by: str = "operator", *, of: str | None = None
    ) -> str | None:
        """Let what `before` names serve again; returns it. With `of`, only while that version is the champion.

        Raises RegistryError when the project has no champion of its own, or another than `of`.
        """
        with self.store.writing(project_id) as connection:
            current, previous = _moves_to_undo(connection, project_id)
            if of not in (None, current.version):
                raise RegistryError(
                    f"{current.version!r} has become the champion of project {project_id} since; nothing was changed."
                )
            version, before = (previous.version, previous.previous_id) if previous is not None else (None, None)
            _move(connection, project_id, version, before, reason, by)
            return _champion_name(connection, project_id)

    def champion(self, project_id: int) -> ModelVersion | None:
        """The version that should serve the project: its own champion, else the default one, else None."""
        with self.store.reading() as connection:
            name = _champion_name(connection, project_id)
            return None if name is None else self._get(connection, name)

    def champions(self) -> dict[int, str]:
        """Version by project for every project with a champion of its own; `DEFAULT` stands for all others."""
        newest = sa.select(sa.func.max(alias_moves.c.id)).group_by(alias_moves.c.project_id)
        query = sa.select(alias_moves.c.project_id, alias_moves.c.version).where(
            alias_moves.c.id.in_(newest), alias_moves.c.version.is_not(None)
        )
        with self.store.reading() as connection:
            return {row.project_id: row.version for row in connection.execute(query)}

    def moves(self, project_id: int, limit: int = 20) -> list[Move]:
        """How the project's champion changed, newest first."""
        query = sa.select(alias_moves).where(alias_moves.c.project_id == project_id)
        with self.store.reading() as connection:
            rows = connection.execute(query.order_by(alias_moves.c.id.desc()).limit(limit)).all()
        return [Move(row.version, row.reason, row.moved_by, row.moved_at) for row in rows]

    def _get(self, connection: Connection, name: str) -> ModelVersion:
        row = _find(connection, name)
        if row is None:
            raise RegistryError(f"There is no model version {name!r}; `captioner versions` lists those there are.")
        return self._version(row)

    def _version(self, row: Row[Any]) -> ModelVersion:
        files = {each: located(getattr(row, each), self.store.data_dir) for each in FILES}
        return ModelVersion(**{name: row._mapping[name] for name in ModelVersion.__dataclass_fields__} | files)


def _moves_to_undo(connection: Connection, project_id: int) -> tuple[Row[Any], Row[Any] | None]:
    """The move that made the project's own champion, and the one before it."""
    current = _newest_move(connection, project_id)
    if current is None or current.version is None:
        if project_id == DEFAULT:
            raise RegistryError("There is no default champion to roll back.")
        raise RegistryError(f"Project {project_id} has no champion of its own to roll back.")
    return current, _previous_move(connection, current)


def _champion_name(connection: Connection, project_id: int) -> str | None:
    for owner in (project_id, DEFAULT):
        move = _newest_move(connection, owner)
        if move is not None and move.version is not None:
            return move.version
    return None


def _newest_move(connection: Connection, project_id: int) -> Row[Any] | None:
    query = sa.select(alias_moves).where(alias_moves.c.project_id == project_id)
    return connection.execute(query.order_by(alias_moves.c.id.desc()).limit(1)).first()


def _previous_move(connection: Connection, move: Row[Any]) -> Row[Any] | None:
    """The move that a rollback of this one goes back to."""
    return connection.execute(sa.select(alias_moves).where(alias_moves.c.id == move.previous_id)).first()


def _named(serving: str | None) -> str:
    return "nothing" if serving is None else repr(serving)


def _move(
    connection: Connection, project_id: int, version: str | None, previous_id: int | None, reason: str, by: str
) -> None:
    values = {"project_id": project_id, "version": version, "previous_id": previous_id, "reason": reason}
    connection.execute(alias_moves.insert().values(**values, moved_by=by, moved_at=now()))


def _find(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(sa.select(model_versions).where(model_versions.c.name == name)).first()
