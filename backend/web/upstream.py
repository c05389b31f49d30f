"""The captioner as a model of label-studio-ml, for people who run the server of that package.

    from label_studio_ml.api import init_app
    from backend.model import CaptionerModel
    app = init_app(model_class=CaptionerModel)

It uses the services of `captioner serve` with the settings of the environment; a `captioner worker` retrains. It fits
both contracts of label-studio-ml, which differ in who names the project:

- 1.0.9 builds `Model(label_config=…, train_output=…, hostname=…, access_token=…)` on /setup, then calls
  `predict(tasks, …)` and, in a process of its own, `fit((), event=…, data=…, job_id=…)`.
- 2.x builds `Model(project_id=…, label_config=…)` for each request, then calls `predict(tasks, context=…, …)`,
  `fit(event, data, …)` or `get("model_version")`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from backend.domain.errors import RequestError
from backend.label_studio import wire
from backend.settings import Settings
from backend.web.routes import predictions, version_of
from backend.web.services import Services, build

try:
    from label_studio_ml.model import LabelStudioMLBase
except ModuleNotFoundError as error:
    raise ImportError(
        "`backend.model` needs the package label-studio-ml: run `uv pip install '.[label-studio-ml]'` in the folder of "
        "this project (plain pip cannot install it, because it pins the Flask of 2019)."
    ) from error

_BASE_NAMES_PROJECT = "project_id" in inspect.signature(LabelStudioMLBase.__init__).parameters


@cache
def process_services() -> Services:
    """The services of this process, built from the environment when first needed."""
    return build(Settings.from_env())


class CaptionerModel(LabelStudioMLBase):
    """Drafts captions and learns from corrections."""

    TRAIN_EVENTS = (
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATION_DELETED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "TASKS_CREATED",
        "TASKS_DELETED",
        "START_TRAINING",
    )

    def __init__(self, project_id: Any = None, label_config: str | None = None, **kwargs: Any) -> None:
        self._project_id = wire.project_of({"project": project_id or None})
        self._config = label_config
        self._hostname: str | None = kwargs.get("hostname") or None
        self._access_token: str | None = kwargs.get("access_token") or None
        if _BASE_NAMES_PROJECT:
            super().__init__(project_id=project_id, label_config=label_config)
        else:
            super().__init__(label_config=label_config, **kwargs)

    def setup(self) -> None:
        """2.x calls this on each construction; nothing is built until it is needed."""

    @property
    def model_version(self) -> str:
        """The version that serves the project."""
        return version_of(_started(), self._project_id or 0)

    def get(self, key: str) -> Any:
        """2.x answers /setup with `get("model_version")`; other keys are read from the cache of its base class."""
        if key == "model_version":
            return self.model_version
        inherited = getattr(super(), "get", None)
        return inherited(key) if inherited else None

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        """`results` in the order of the tasks: a prediction each, `[]` where there is none.

        Raises RequestError when tasks or labelling config are malformed.
        """
        if not tasks:
            return []
        project = tasks[0].get("project") if self._project_id is None else self._project_id
        body = {"tasks": list(tasks), "project": project, "label_config": self._config, "params": {"context": context}}
        request = wire.predict_request(body)
        services = _started()
        self._save_project(services, request.project_id)
        results = predictions(services, request)
        if self._project_id is None:
            # 1.0.9 answers /setup with a version that it makes up. Label Studio stores a prediction without a version
            # under that name; with any other name it would request and store every draft again.
            for prediction in results:
                if prediction:
                    del prediction["model_version"]
        return results

    def fit(
        self, *args: Any, event: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Commit one webhook event; the worker retrains when a retrain is due.

        Raises RequestError when the event is malformed.
        """
        if event is None and len(args) >= 2 and isinstance(args[0], str):
            event, data = args[:2]
        if event is None or data is None:
            raise RequestError("An event and its data are needed: `fit` learns from webhook events only.")
        receipt = process_services().inbox.receive(
            wire.event({**data, "action": event}, process_services().store.label_config)
        )
        # 1.0.9 takes any returned value for a trained model and would report the job's number as a model version.
        return None if self._project_id is None else {"job": receipt.job}

    def _save_project(self, services: Services, project_id: int) -> None:
        """Save what images and the worker need to know of the project, as /setup does under `captioner serve`."""
        known = services.store.get_project(project_id)
        services.store.save_project(
            project_id,
            self._config or "",
            self._hostname or (known.hostname if known else None),
            self._access_token if self._hostname else (known.access_token if known else None),
        )


def _started() -> Services:
    """The services, started so that champions load; a process that only takes in events never calls this."""
    services = process_services()
    services.start()
    return services
