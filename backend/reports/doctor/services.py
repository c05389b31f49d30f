"""Checks of the running services: Redis, the worker, the ML backend, Label Studio."""

from __future__ import annotations

from collections.abc import Iterable

import requests

from backend.domain.errors import CaptionerError, LabelStudioError, LabelStudioRefusalError, QueueError
from backend.label_studio.client import LabelStudio
from backend.queue import DRAFTS, RETRAINS, Queue
from backend.reports.doctor.checks import Finding, clock, explained
from backend.reports.serving import serving
from backend.retraining.tracking import server as tracking
from backend.settings import Settings
from backend.store.registry import DEFAULT
from backend.store.store import Store
from backend.system import trust
from backend.system.typed import typed

HEALTH_SECONDS = 1.0
"""Label Studio waits so long for /health."""
MODEL_CLASS = "CaptionerModel"


def redis(settings: Settings) -> Iterable[Finding]:
    try:
        queue = Queue(settings.redis_url)
        queue.ping()
    except QueueError as error:
        problem = str(error).partition("; ")[0].rstrip(".")
        if "password" in problem or "uthenti" in problem:
            remedy = "Put the user name and password of Redis into REDIS_URL: redis://USER:PASSWORD@HOST:6379/0."
        else:
            remedy = f"Start `{typed(settings.data_dir, 'up')}`, which runs one, or name a running one in REDIS_URL."
        yield Finding(f"{problem}.", remedy)
        return
    yield from clock("Redis", queue.ahead_seconds())


def mlflow(settings: Settings) -> Iterable[Finding]:
    """Whether retrains can be recorded; asked where MLFLOW_TRACKING_URI is set. Nothing else waits for it."""
    uri = settings.mlflow_tracking_uri or ""
    try:
        tracking.check()
        if uri.startswith(("http://", "https://")):
            requests.get(f"{uri.rstrip('/')}/health", timeout=2).raise_for_status()
    except CaptionerError as error:
        problem, _, remedy = str(error).partition(": ")
        yield Finding(f"{problem}.", f"R{remedy[1:]}", True)
    except requests.RequestException as error:
        reason = f"status {error.response.status_code}" if error.response is not None else type(error).__name__
        yield Finding(
            f"MLflow's server does not answer ({reason}), so retrains are not recorded there.",
            "Start it, or correct MLFLOW_TRACKING_URI; what is missing is recorded later.",
            True,
        )


def worker(settings: Settings) -> Iterable[Finding]:
    """Asked where Redis answers."""
    queue = Queue(settings.redis_url)
    if not queue.alive():
        yield Finding(
            "No worker runs, so nothing retrains, and nothing is compared with Label Studio.",
            f"Start `{typed(settings.data_dir, 'worker')}`; `captioner up` starts one too.",
        )
        return
    for name, missing in ((RETRAINS, "retrains"), (DRAFTS, "drafts or is compared with Label Studio")):
        if not queue.alive(name):
            yield Finding(
                f"Every worker runs with --only, and none of them takes what {missing}.",
                f"Start `{typed(settings.data_dir, 'worker')}` without --only.",
            )


def backend(settings: Settings, store: Store | None) -> Iterable[Finding]:
    """Whether it answers, is a captioner, lets these credentials in, has this store's data and loaded its champions."""
    url = settings.backend_url
    try:
        answer = requests.get(f"{url}/health", timeout=2)
        health = answer.json() if answer.ok else None
    except requests.ConnectionError:
        yield Finding(
            f"The ML backend does not run at {url}.",
            f"Start `{typed(settings.data_dir, 'serve')}` or `captioner up`, or name its port with CAPTIONER_PORT.",
        )
        return
    except (requests.RequestException, ValueError):
        health = None
    if not isinstance(health, dict) or health.get("model_class") != MODEL_CLASS:
        yield Finding(
            f"What answers at {url}/health is no captioner.",
            "End that program, or have the ML backend listen on another port: CAPTIONER_PORT (--port), then "
            "`captioner connect` with the new --backend-url.",
        )
        return
    if answer.elapsed.total_seconds() > HEALTH_SECONDS:
        yield Finding(
            f"The ML backend took {answer.elapsed.total_seconds():.1f} s for /health, and Label Studio waits for 1 s.",
            "Give the machine more cores, or let fewer programs run beside it.",
            warning=True,
        )
    loaded = serving(settings)
    if loaded is None:
        yield Finding(
            f"The ML backend at {url} refuses the user name and password of this command.",
            "Set the BASIC_AUTH_USER and BASIC_AUTH_PASS that it was started with.",
        )
        return
    if store is not None and loaded.get("database", store.identity) != store.identity:
        yield Finding(
            f"The ML backend at {url} uses another database than this command.",
            "Name its data with --data-dir or DATABASE_URL, or start it again with those of this command.",
        )
        return
    for project, reason in loaded.get("refused", {}).items():
        whose = "projects without one of their own" if int(project) == DEFAULT else f"project {project}"
        yield Finding(
            f"The champion of {whose} is not served: {str(reason).rstrip('.')}.",
            f"Let the version before it serve: `{typed(settings.data_dir, 'rollback', '--project', str(project))}`.",
        )


def label_studio(settings: Settings, client: LabelStudio | None) -> Iterable[Finding]:
    """Whether it answers at its address and takes the token, of either kind, and what its clock says."""
    if client is None:
        names = ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY")
        missing = [name for name, value in zip(names, _access(settings), strict=True) if not value]
        yield Finding(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set: nothing is compared with Label "
            f"Studio, and its projects are not checked.",
            "Set LABEL_STUDIO_URL (--label-studio-url) to its address, and LABEL_STUDIO_API_KEY (--api-key) to a "
            "personal access token of Account & Settings, for the backend and the worker too.",
            warning=True,
        )
        return
    try:
        client.get("/api/projects", page_size=1)
    except LabelStudioRefusalError as error:
        if error.status == 404:
            yield Finding(
                f"What answers at {client.url} is no Label Studio.",
                "Set LABEL_STUDIO_URL (--label-studio-url) to the address of Label Studio alone.",
            )
        else:
            yield explained(error, "Read Label Studio's log, and check LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.")
    except LabelStudioError as error:
        certificate = trust.fault(error)
        if certificate is None:
            yield explained(error, "Check LABEL_STUDIO_URL (--label-studio-url) and LABEL_STUDIO_API_KEY (--api-key).")
        else:
            reason, _, mend = certificate.partition(": ")
            yield Finding(
                f"Label Studio at {client.url} cannot be reached: {reason}.",
                f"{mend[:1].upper()}{mend[1:]}." if mend else "Renew the certificate of Label Studio's address.",
            )
    if client.ahead_seconds is not None:
        yield from clock("Label Studio", client.ahead_seconds)


def _access(settings: Settings) -> tuple[str | None, str | None]:
    return settings.label_studio_url, settings.label_studio_api_key
