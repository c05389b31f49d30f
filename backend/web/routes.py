"""The endpoints that Label Studio calls. Each decodes the request, calls a service and encodes the answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

import labeling_config
from backend.domain.corrections import Draft
from backend.domain.errors import RequestError
from backend.label_studio import wire
from backend.reports import progress
from backend.retraining import cancel
from backend.serving.drafting import Drafted
from backend.system import metrics as counters
from backend.web import metrics
from backend.web.body import json_object
from backend.web.services import Services

UNTRAINED = "untrained"
"""The version named for a project without a model: Label Studio fails on a missing or empty one."""

WITHOUT_PASSWORD = frozenset({"captioner.health", "captioner.ready"})
"""Endpoints that need no password."""

ACTIONS = frozenset(
    f"{kind}_{verb}" for kind in ("TASKS", "ANNOTATION", "ANNOTATIONS") for verb in ("CREATED", "UPDATED", "DELETED")
) | {"START_TRAINING"}
"""Events that are counted by name; a caller may send any other."""

SETUP_WAIT_SECONDS = 2.0
"""How long /setup waits for champions that are loading after a start; Label Studio waits 3 s for the answer."""
PREDICT_WAIT_SECONDS = 20.0
"""The same for /predict, for which Label Studio waits 100 s."""


def routes(services: Services) -> Blueprint:
    """The wire protocol of Label Studio 1.23 over these services."""
    blueprint = Blueprint("captioner", __name__)

    @blueprint.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "UP", "model_class": "CaptionerModel"}

    @blueprint.get("/ready")
    def ready() -> ResponseReturnValue:
        """For load balancers: 503 until the champions of before the start are loaded, and where one cannot be.

        That is no error to log: who waits asks again and again.
        """
        if problem := services.unready():
            return {"error": problem}, 503
        return {"status": "READY", "model_class": "CaptionerModel"}

    @blueprint.post("/setup")
    def setup() -> dict[str, Any]:
        body = wire.setup_request(json_object())
        services.store.save_project(body.project_id, body.label_config, body.hostname, body.access_token)
        labeling_config.parse(body.label_config)  # an error is shown to the person who connects the project
        return {"model_version": version_of(services, body.project_id)}

    @blueprint.post("/predict")
    def predict() -> dict[str, Any]:
        return {"results": predictions(services, wire.predict_request(json_object()))}

    @blueprint.post("/webhook")
    def webhook() -> dict[str, Any]:
        event = wire.event(json_object(), services.store.label_config)
        receipt = services.inbox.receive(event)
        counters.EVENTS.labels(event.action if event.action in ACTIONS else "other").inc()
        counters.CORRECTIONS.inc(receipt.new_corrections)
        return {"status": "ok"} | ({"job": receipt.job} if receipt.job else {})

    @blueprint.route("/versions", methods=["GET", "POST"])
    def versions() -> dict[str, Any]:
        project_id = wire.project_of(json_object() if request.method == "POST" else request.args)
        return {"versions": services.store.version_names(project_id)}

    @blueprint.get("/serving")
    def serving() -> dict[str, Any]:
        """For `captioner status`: the loaded version by project; 0 stands for projects without a champion."""
        champions = services.champions
        return {
            "serving": champions.assigned(),
            "refused": champions.refused(),
            "database": services.store.identity,
        }

    @blueprint.get("/metrics")
    def prometheus() -> ResponseReturnValue:
        """For Prometheus, which gives a password too; the same whichever process of the server answers."""
        return metrics.text(services), {"Content-Type": metrics.CONTENT_TYPE}

    @blueprint.get("/train-status")
    def train_status() -> dict[str, Any]:
        """How far the retrain of `?project=N` is; without a number, of every project."""
        return progress.report(services.store, wire.project_of(request.args))

    @blueprint.post("/cancel-training")
    def cancel_training() -> dict[str, Any]:
        project_id = wire.project_of(json_object())
        if project_id is None:
            raise RequestError('The request names no project to cancel the retrain of: send {"project": <number>}.')
        retrain = cancel.cancel(services.store, services.queue, project_id)
        message = cancel.sentence(project_id, retrain)
        return {"cancelled": retrain and f"retrain-{retrain.snapshot}", "message": message}

    return blueprint


def version_of(services: Services, project_id: int) -> str:
    """The version named to Label Studio, never null or empty: that of the drafts which /predict gives next."""
    return services.version(project_id, SETUP_WAIT_SECONDS) or UNTRAINED


def predictions(services: Services, body: wire.PredictRequest) -> list[Any]:
    """`results` for /predict, in the order of the tasks: `[]` where there is no draft, one version in all others.

    A hint is always answered with a prediction, which is empty where there is none: Label Studio's editor reads its
    `result`. Waits for champions that are loading after a start.
    """
    arrived = time.monotonic()
    services.await_champions(PREDICT_WAIT_SECONDS)
    with services.champions.in_use(body.project_id) as version:
        drafted: Sequence[Drafted]
        if body.hint and version:
            drafted = services.drafting.complete(body.project_id, body.tasks, version, body.hint, arrived)
        else:
            drafted = services.drafting.draft(body.project_id, body.tasks, version, arrived)
    nothing: Any = {"model_version": version or UNTRAINED, "score": 0.0, "result": []} if body.hint else []
    return [wire.prediction(draft, body.tags) if isinstance(draft, Draft) else nothing for draft in drafted]
