"""Connects a Label Studio project to this backend: the ML backend record, the webhook and prelabelling."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import labeling_config
from backend.domain.errors import LabelStudioError, LabelStudioRefusalError
from backend.label_studio.client import LabelStudio
from labeling_config import LabelingConfigError

TITLE = "captioner"
"""Title of the ML backend record. The label stream asks for drafts only if `project.model_version` is this title."""


@dataclass(frozen=True)
class Connection:
    """What was done, in sentences for the user (`report`), and what does not work yet (`problems`)."""

    report: tuple[str, ...]
    problems: tuple[str, ...]


def connect(client: LabelStudio, project_id: int, backend_url: str, auth: tuple[str, str] | None = None) -> Connection:
    """Connect the project to the running backend at `backend_url`, the address by which Label Studio reaches it.

    `auth` is the user name and password that the backend asks for. Safe to repeat. Raises LabelStudioError, one
    sentence that says how to fix it, when no draft could be served.
    """
    parts, url = urlsplit(backend_url), backend_url.rstrip("/")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise LabelStudioError(
            f"{backend_url!r} is not an address of a backend; one such as http://10.0.0.5:9090 is needed."
        )
    if auth is not None and (":" in auth[0] or not "".join(auth).isascii() or not all(auth)):
        # Label Studio sends other characters as Latin-1, servers read them as UTF-8
        raise LabelStudioError("BASIC_AUTH_USER and BASIC_AUTH_PASS must be plain ASCII, and the user without a colon.")
    project = client.project(project_id)
    try:
        label_config = str(project.get("label_config") or "")
        tags = labeling_config.parse(label_config) if label_config.strip() else None
    except LabelingConfigError as error:
        raise LabelStudioError(f"Project {project_id} cannot be connected: {error}") from error
    if tags is None:
        raise LabelStudioError(
            f"Project {project_id} has no labelling config yet; set one (Settings > Labeling Interface), for instance "
            f"{labeling_config.NAMES[0]}.xml of this project."
        )
    report = [
        f"The caption box is {tags.caption_tag!r} for the image {tags.image_tag!r}, read from the task's field "
        f"{tags.data_key!r}.",
        *labeling_config.advice(label_config),
    ]
    old_url, sentence = _record(client, project_id, url, auth, interactive=tags.takes_hints)
    report.append(sentence)
    if tags.takes_hints:
        report.append(
            f"What is typed into the box {labeling_config.HINT_TAG!r} is completed where Auto-Annotation is on, which "
            f"is switched below the task."
        )
    problems = []
    try:
        report.append(_webhook(client, project_id, url, old_url, auth))
    except LabelStudioRefusalError as error:
        problems.append(_why_no_webhook(error, url))
    report.append(_prelabel(client, project, known=old_url is not None))
    if client.legacy_tokens_enabled() is False:
        report.append(
            "Legacy tokens are off in this Label Studio, so the token it sends to the backend is invalid: set "
            "LABEL_STUDIO_API_KEY (a personal access token will do), or the backend cannot fetch uploaded images."
        )
    return Connection(tuple(report), tuple(problems))


def own_record(records: Sequence[dict[str, Any]], url: str) -> dict[str, Any] | None:
    """The ML backend record of this captioner: the one with its address, else the one with its title."""
    return next((r for r in records if str(r.get("url")).rstrip("/") == url), None) or next(
        (r for r in records if r.get("title") == TITLE), None
    )


def check_first(project_id: int, records: Sequence[dict[str, Any]], own: dict[str, Any] | None) -> None:
    """Raises LabelStudioError where another ML backend comes before this captioner's."""
    other = next((r for r in records if r is not own), None)
    if other is not None and (own is None or other["id"] < own["id"]):
        raise LabelStudioError(
            f"Project {project_id} already has the ML backend {other.get('title')!r} at {other.get('url')}, and Label "
            f"Studio uses only the first one; remove it (Settings > Model) and connect again."
        )


def authorization(auth: tuple[str, str]) -> str:
    """The header with a user name and password."""
    return "Basic " + base64.b64encode(":".join(auth).encode()).decode()


def _record(
    client: LabelStudio, project_id: int, url: str, auth: tuple[str, str] | None, interactive: bool
) -> tuple[str | None, str]:
    """Create or update the ML backend record; returns its old address, and what was done."""
    records = client.ml_backends(project_id)
    own = own_record(records, url)
    check_first(project_id, records, own)
    fields: dict[str, Any] = {"title": TITLE, "is_interactive": interactive}
    if auth is None:
        # Label Studio sends credentials whenever both are set, whatever auth_method says, and keeps an emptied password
        fields |= {"auth_method": "NONE", "basic_auth_user": ""}
    else:
        fields |= {"auth_method": "BASIC_AUTH", "basic_auth_user": auth[0], "basic_auth_pass": auth[1]}
    try:
        if own is None:
            client.create_ml_backend(project_id, url, **fields)
            return None, f"Label Studio has a new ML backend {TITLE!r} at {url}."
        client.update_ml_backend(own["id"], project_id, url, **fields)
    except LabelStudioRefusalError as error:
        raise LabelStudioError(_why_no_record(error, url, auth)) from error
    return own.get("url"), f"The ML backend {TITLE!r} at {url} existed already and is up to date."


def _webhook(client: LabelStudio, project_id: int, url: str, old_url: str | None, auth: tuple[str, str] | None) -> str:
    """Create or update the webhook for all events, with the credentials; returns what was done."""
    address = f"{url}/webhook"
    wanted: dict[str, Any] = {"url": address, "is_active": True, "send_payload": True, "send_for_all_actions": True}
    hooks = client.webhooks(project_id)
    hook = next((h for h in hooks if h.get("url") == address), None)
    if hook is None and old_url is not None:  # the backend has a new address: its webhook is updated
        hook = next((h for h in hooks if h.get("url") == f"{old_url.rstrip('/')}/webhook"), None)
    headers = dict(hook.get("headers") or {}) if hook else {}
    if auth is not None:
        # Label Studio does not use the credentials of the ML backend for its webhook
        headers["Authorization"] = authorization(auth)
    wanted["headers"] = headers
    credentials = " with the user name and password" if auth else ""
    if hook is None:
        client.create_webhook(project_id, **wanted)
        return f"A new webhook sends every event to {address}{credentials}."
    client.update_webhook(hook["id"], **wanted)  # even if unchanged: Label Studio then checks the address
    return f"The webhook sends every event to {address}{credentials}."


def _prelabel(client: LabelStudio, project: Mapping[str, Any], known: bool) -> str:
    """Show drafts in the project; one connected before that shows stored drafts keeps showing them."""
    shown, project_id = project.get("model_version"), int(project["id"])
    # Label Studio lists what is shown among the versions, with no predictions where it is a backend.
    stored = known and shown != TITLE and shown in client.model_versions(project_id)
    wanted = {"show_collab_predictions": True, "model_version": shown if stored else TITLE}
    present = client.project(project_id)  # read again, because the steps before may have changed it
    changed = {key: value for key, value in wanted.items() if present.get(key) != value}
    if changed:
        client.update_project(project_id, **changed)
    if stored:
        return f"Tasks open with stored drafts of {shown}; `captioner mode --project {project_id} live` changes that."
    return "Tasks open with a draft of this backend, in the Data Manager and in the label stream."


def _why_no_record(error: LabelStudioRefusalError, url: str, auth: tuple[str, str] | None) -> str:
    detail = error.detail
    if address_refused(error):
        return private(url)
    if "resolve hostname" in detail:
        return (
            f"Label Studio cannot resolve the host of {url}; give an address of the captioner that Label Studio's "
            f"machine or container can reach."
        )
    if "health check failed" in detail:
        return (
            f"Label Studio cannot reach the captioner at {url}; check that it runs (captioner serve), and that Label "
            f"Studio's machine or container can reach this address."
        )
    if "Reason: 401" in detail or "authentication parameters" in detail:
        given = "the user name and password given" if auth else "a call without user name and password"
        return (
            f"The captioner at {url} refuses {given}; use the BASIC_AUTH_USER and BASIC_AUTH_PASS it was started with."
        )
    if "look like a valid ML backend" in detail:
        reason = detail.partition("Reason: ")[2].partition(" for url")[0].partition(" Check the ML")[0].rstrip(".")
        return (
            f"The server at {url} did not accept the project ({reason}); check that it is the captioner, and its log."
        )
    return str(error)


def _why_no_webhook(error: LabelStudioRefusalError, url: str) -> str:
    if address_refused(error):
        return private(url)
    if error.status == 400 and "valid URL" in error.detail:
        return without_dot(url)
    return f"The webhook for {url} could not be created, so corrections would not arrive: {error}"


def without_dot(url: str) -> str:
    return (
        f"Label Studio saves no webhook for {url}, because the host {urlsplit(url).hostname!r} has no dot: drafts "
        f"are shown but corrections would not arrive; give the captioner's IP address or a name with a dot (in "
        f"Docker Compose a network alias such as captioner.internal)."
    )


def address_refused(error: LabelStudioRefusalError) -> bool:
    return error.status == 403 and ("reserved network" in error.detail or "URL was not allowed" in error.detail)


def private(url: str) -> str:
    return (
        f"Label Studio refuses {url} because its address is private or loopback; start Label Studio with "
        f"USE_DEFAULT_BANNED_SUBNETS=false (or with both ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false) "
        f"and connect again."
    )
