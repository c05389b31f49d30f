"""The endpoints Label Studio calls: decode, call a room, encode."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flask import Blueprint, request

import labeling_config
from backend.domain.corrections import Draft
from backend.domain.errors import RequestError
from backend.label_studio import wire
from backend.reports import progress
from backend.retraining import cancel
from backend.serving.champions import Champions

if TYPE_CHECKING:
    from backend.web.services import Services

UNTRAINED = "untrained"
"""The version of a project that nothing serves yet: Label Studio fails on a missing or empty one."""

OPEN = frozenset({"captioner.health"})
"""Endpoints that ask for no password."""

SETUP_WAIT_SECONDS = 2.0
"""For champions still being loaded after a start: Label Studio gives /setup 3 s, and /predict 100 s."""
PREDICT_WAIT_SECONDS = 20.0


def routes(services: Services) -> Blueprint:
    """The wire protocol of Label Studio 1.23 over these services."""
    blueprint = Blueprint("captioner", __name__)

    @blueprint.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "UP", "model_class": "CaptionerModel"}

    @blueprint.get("/")
    def front() -> dict[str, Any]:
        """The same for a person who opens the address; it asks for the password, unlike /health."""
        return health()

    @blueprint.post("/setup")
    def setup() -> dict[str, Any]:
        asked = wire.setup_request(_json())
        services.store.save_project(asked.project_id, asked.label_config, asked.hostname, asked.access_token)
        labeling_config.parse(asked.label_config)  # refused here, where Label Studio shows the sentence to a person
        services.await_champions(SETUP_WAIT_SECONDS)
        return {"model_version": version_of(services.champions, asked.project_id)}

    @blueprint.post("/predict")
    def predict() -> dict[str, Any]:
        return {"results": predictions(services, wire.predict_request(_json()))}

    @blueprint.post("/webhook")
    def webhook() -> dict[str, Any]:
        receipt = services.inbox.receive(wire.event(_json(), services.store.label_config))
        return {"status": "ok"} | ({"job": receipt.job} if receipt.job else {})

    @blueprint.route("/versions", methods=["GET", "POST"])
    def versions() -> dict[str, Any]:
        project_id = wire.project_of(_json() if request.method == "POST" else request.args)
        return {"versions": [version.name for version in services.registry.versions(project_id)]}

    @blueprint.get("/serving")
    def serving() -> dict[str, Any]:
        """For `captioner status`: what is really in memory, by project; 0 stands for projects without their own."""
        return {"serving": services.champions.assigned(), "refused": services.champions.refused()}

    @blueprint.get("/train-status")
    def train_status() -> dict[str, Any]:
        """How far the retrain of the project `?project=N` is, of every project without one named."""
        return progress.report(services.store, wire.project_of(request.args))

    @blueprint.post("/cancel-training")
    def cancel_training() -> dict[str, Any]:
        project_id = wire.project_of(_json())
        if project_id is None:
            raise RequestError('The request names no project to cancel the retrain of: send {"project": <number>}.')
        retrain = cancel.cancel(services.store, services.queue, project_id)
        told = cancel.sentence(project_id, retrain)
        return {"cancelled": retrain and f"retrain-{retrain.snapshot}", "message": told}

    return blueprint


def version_of(champions: Champions, project_id: int) -> str:
    """The version Label Studio is told: never null or empty, and only what really serves."""
    return champions.serving(project_id) or UNTRAINED


def predictions(services: Services, asked: wire.PredictRequest) -> list[Any]:
    """`results` for /predict, aligned with the tasks: `[]` where there is no draft, one version in all others.

    Waits for champions that are still being loaded after a start.
    """
    came = time.monotonic()
    services.await_champions(PREDICT_WAIT_SECONDS)
    with services.champions.in_use(asked.project_id) as version:
        drafted = services.drafting.draft(asked.project_id, asked.tasks, version, came)
    return [wire.prediction(draft, asked.tags) if isinstance(draft, Draft) else [] for draft in drafted]


def _json() -> Any:
    try:
        payload = request.get_json(force=True, silent=True)
    except RecursionError as error:
        raise RequestError("The request body is nested too deep.") from error
    if not isinstance(payload, dict):
        raise RequestError("The request body is not a JSON object.")
    return payload
