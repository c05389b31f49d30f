"""The tracking server of MLflow: retrains become runs, their versions registered models, the champion an alias."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from backend.domain.errors import CaptionerError
from backend.retraining.tracking.record import Record, record, verdict_tags
from backend.settings import Settings, mlflow_defaults
from backend.store.registry import Registry
from backend.store.retrains import Retrain
from backend.store.store import Store
from training.captioner import checkpoint

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

ALIAS = "champion"
RETRAINS = 20
"""So many of a project's newest retrains are brought to MLflow: all that ended while it was away for a while."""
MOST_SECONDS = 120.0
"""A server that is slow keeps a worker from its next job for no longer."""
CHECKPOINT = (checkpoint.WEIGHTS, checkpoint.CONFIG, checkpoint.VOCABULARY, checkpoint.SUMS)
"""The checkpoint itself: the examples beside it show what people wrote."""
AT_ONCE = 100
"""Parameters and figures that MLflow takes with one request."""


def check() -> None:
    """Raises CaptionerError where MLflow is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise CaptionerError(
            "MLFLOW_TRACKING_URI is set, but MLflow is not installed: run `pip install '.[mlflow]'` in the folder of "
            "this project, or unset it."
        )


def follow(settings: Settings, store: Store, project_id: int, most_seconds: float = MOST_SECONDS) -> None:
    """Bring MLflow up to date with the project's retrains and champion. What goes wrong is logged, in one sentence."""
    problems: list[str] = []

    def work() -> None:
        try:
            # Two workers would make a run of the same retrain each.
            with FileLock(settings.data_dir / "mlflow.lock"):
                _Tracking(settings, store, project_id).update()
        except CaptionerError as error:
            problems.append(str(error))
        except Exception as error:  # MLflow and its stores raise errors of many libraries
            reason = (str(error) or type(error).__name__).strip().splitlines()[0][:300].rstrip(".")
            problems.append(f"MLflow could not record project {project_id} ({reason}); it is tried again later.")

    thread = threading.Thread(target=work, name="mlflow", daemon=True)
    thread.start()
    thread.join(most_seconds)
    if thread.is_alive():
        problems.append(
            f"MLflow has not taken what is new of project {project_id} within {most_seconds:g} s; it is tried again "
            "later."
        )
    for problem in problems:
        log.warning("%s", problem)


class _Tracking:
    """A project as MLflow knows it: every call asks the server."""

    def __init__(self, settings: Settings, store: Store, project_id: int) -> None:
        check()
        mlflow_defaults()
        from mlflow import MlflowClient

        self._settings, self._store, self._project_id = settings, store, project_id
        self._registry = Registry(store)
        self._client = MlflowClient(settings.mlflow_tracking_uri, settings.mlflow_tracking_uri)
        self._model = f"captioner-project-{project_id}"

    def update(self) -> None:
        from mlflow.entities import ViewType

        experiment = self._experiment()
        ours = f"tags.database = '{self._store.identity}' and tags.project = '{self._project_id}'"
        # A run that somebody has deleted there is not made again.
        runs = self._client.search_runs([experiment], ours, ViewType.ALL)
        known = {run.data.tags.get("retrain"): run for run in runs}
        problems: list[Exception] = []
        for retrain in reversed(self._store.retrains(self._project_id, limit=RETRAINS)):
            run = known.get(str(retrain.id))
            try:
                if not retrain.active and (run is None or self._is_outdated(run, retrain)):
                    self._log(experiment, record(self._registry, retrain), run)
            except Exception as error:  # one that cannot be recorded does not keep the others away
                problems.append(error)
        self._move_alias()
        if problems:
            raise problems[0]

    def _is_outdated(self, run: Run, retrain: Retrain) -> bool:
        """Whether sending it was interrupted, or the version has been judged again since; nothing that somebody has
        deleted there is."""
        if run.info.lifecycle_stage != "active":
            return False
        tags = verdict_tags(self._registry.get(retrain.version)) if retrain.version else {}
        return run.info.status == "RUNNING" or any(run.data.tags.get(name) != value for name, value in tags.items())

    def _experiment(self) -> str:
        name = self._settings.mlflow_experiment_name
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _log(self, experiment: str, made: Record, known: Run | None) -> None:
        """Make the run, or bring one up to date. It is RUNNING until everything has been sent."""
        from mlflow.entities import Metric, Param, RunTag

        client, began, ended = self._client, _milliseconds(made.started_at), _milliseconds(made.ended_at)
        tags = made.tags | {"database": self._store.identity}
        run = known or client.create_run(experiment, began, tags, made.name)
        key = run.info.run_id
        params = [Param(name, value) for name, value in made.params.items()]
        metrics = [Metric(name, value, ended, step) for name, value, step in made.figures]
        for first in range(0, max(len(params), len(metrics)), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            client.log_batch(key, metrics[part], params[part])
        for name, text in made.files.items():
            client.log_text(key, text, name)
        if made.checkpoint:
            self._register(made.checkpoint, made.tags, run)
        client.log_batch(key, tags=[RunTag(name, value) for name, value in tags.items()])
        client.set_terminated(key, made.status, ended)

    def _register(self, folder: Path, given: Mapping[str, str], run: Run) -> None:
        """The version in the registry, with its checkpoint in the run; once. Its verdict may change."""
        from mlflow.exceptions import MlflowException

        client, key = self._client, run.info.run_id
        versions = client.search_model_versions(f"run_id = '{key}'")
        tags = {name: given[name] for name in ("version", "parent", "verdict", "provisional") if name in given}
        for each in versions:
            for name, value in tags.items():
                client.set_model_version_tag(self._model, each.version, name, value)
        if versions:
            return
        for path in (folder / name for name in CHECKPOINT):
            if path.exists():
                client.log_artifact(key, str(path), "checkpoint")
        with suppress(MlflowException):  # it is there already; else the next call says what is wrong
            client.create_registered_model(self._model)
        source, tags = f"{run.info.artifact_uri}/checkpoint", tags | {"database": self._store.identity}
        client.create_model_version(self._model, source, key, tags, description=given["outcome"], await_creation_for=0)

    def _move_alias(self) -> None:
        """To the version that serves the project; away where that is none that MLflow knows, such as the starter."""
        versions = {
            each.tags.get("version"): str(each.version)
            for each in self._client.search_model_versions(f"name = '{self._model}'")
            if each.tags.get("database") == self._store.identity
        }
        if not versions:
            return
        champion = self._registry.champion(self._project_id)
        wanted = versions.get(champion.name) if champion else None
        aliases: Any = self._client.get_registered_model(self._model).aliases
        if wanted and str(aliases.get(ALIAS)) != wanted:
            self._client.set_registered_model_alias(self._model, ALIAS, wanted)
        elif not wanted and str(aliases.get(ALIAS)) in versions.values():  # not that of another database
            self._client.delete_registered_model_alias(self._model, ALIAS)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
