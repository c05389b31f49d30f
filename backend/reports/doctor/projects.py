"""Checks of one project in Label Studio: its labelling config, ML backend, webhook and prelabelling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import labeling_config
from backend.domain.errors import LabelStudioError, LabelStudioRefusalError
from backend.images.addresses import is_public, resolve_host
from backend.label_studio.client import LabelStudio
from backend.label_studio.connect import (
    TITLE,
    address_refused,
    authorization,
    check_first,
    own_record,
    private,
    without_dot,
)
from backend.reports.doctor.checks import Finding, explained
from backend.settings import Settings
from backend.system.typed import typed
from labeling_config import LabelingConfigError

CONNECTED, FAILED = "CO", "ER"
INTERFACE = "Change the config under Settings > Labeling Interface"


def project(settings: Settings, client: LabelStudio, project_id: int) -> Iterable[Finding]:
    """Everything that keeps its drafts from being shown, or its corrections from arriving."""
    try:
        found = client.project(project_id)
    except LabelStudioRefusalError as error:
        if error.status != 404:
            raise
        yield Finding(
            str(error).partition("; ")[0] + ".",
            "If it was deleted there is nothing to do; else use the token of a member of the project.",
            warning=True,
        )
        return
    config = str(found.get("label_config") or "")
    yield from _labelling(config)
    records = client.ml_backends(project_id)
    if not records:
        yield Finding(
            f"Label Studio has no ML backend for project {project_id}: nothing is drafted.",
            _connect(settings, project_id, None),
        )
        return
    own = own_record(records, settings.backend_url)
    try:
        check_first(project_id, records, own)
    except LabelStudioError as error:
        if own is not None or len(records) > 1:
            yield explained(error, _connect(settings, project_id, None))
            return
        own = records[0]  # made by hand, at another address than this machine's
    record = own or records[0]
    url = str(record.get("url")).rstrip("/")
    connect = _connect(settings, project_id, url)
    yield from _record(settings, record, url, project_id)
    if not record.get("is_interactive") and _takes_hints(config):
        yield Finding(
            "Hints are not completed: the ML backend is not used for interactive annotation.", connect, warning=True
        )
    yield from _webhook(settings, client, project_id, url)
    yield from _prelabelling(client, found, record, connect)


def _labelling(config: str) -> Iterable[Finding]:
    try:
        for sentence in labeling_config.advice(config):
            problem, _, mend = sentence.partition("; ")
            yield Finding(f"{problem}.", f"{INTERFACE}: {mend}", warning=True)
    except LabelingConfigError as error:
        problem, _, mend = str(error).partition("; ")
        yield Finding(
            f"{problem.rstrip('.')}.",
            f"{INTERFACE}: {mend}" if "add " in mend else f"{INTERFACE}; labeling_config/caption.xml is a good start.",
        )


def _takes_hints(config: str) -> bool:
    try:
        return labeling_config.parse(config).takes_hints
    except LabelingConfigError:
        return False


def _record(settings: Settings, record: Mapping[str, Any], url: str, project_id: int) -> Iterable[Finding]:
    """Whether Label Studio reaches the backend, and gives the user name and password that it asks for."""
    connect, shown = _connect(settings, project_id, url), _shown(url)
    user = urlsplit(url).username or record.get("basic_auth_user") or None
    if settings.basic_auth and unquote(user or "") != settings.basic_auth[0]:
        yield Finding(
            "Label Studio does not give the ML backend the user name of BASIC_AUTH_USER, which therefore refuses it.",
            connect,
        )
    elif record.get("state") == FAILED:
        reason = str(record.get("error_message") or "it gave no reason").rstrip(".")
        if "401" in reason:
            yield Finding("The ML backend refuses the password that Label Studio gives it.", connect)
        else:
            yield Finding(
                f"The ML backend at {shown} answered Label Studio with an error: {reason}.",
                f"Read the log of `captioner serve` for the cause. {connect}",
            )
    elif record.get("state", CONNECTED) not in {CONNECTED, "TR"}:
        problem = f"Label Studio cannot reach the ML backend at {shown}"
        remedy = "Let Label Studio's machine reach this address (firewall, proxy), or give another."
        if _is_private(url):
            problem += ", whose address is private or loopback"
            _, start = _split(private(shown))
            remedy = f"If the backend runs there, {start[:1].lower()}{start[1:]} If it has another address, give that."
        remedy = _elsewhere(settings, url) + remedy
        yield Finding(f"{problem}.", f"{remedy} {_connect(settings, project_id, 'ADDRESS')}")


def _webhook(settings: Settings, client: LabelStudio, project_id: int, url: str) -> Iterable[Finding]:
    """Whether there is one that is sent everything, with credentials, to an address that Label Studio allows."""
    connect, shown = _connect(settings, project_id, url), _shown(url)
    address = f"{url}/webhook"
    hook = next((each for each in client.webhooks(project_id) if each.get("url") == address), None)
    host = urlsplit(url).hostname or ""
    if hook is None:
        if "." not in host and ":" not in host and host != "localhost":
            problem, remedy = _split(without_dot(shown))
            yield Finding(problem, f"{remedy} {_connect(settings, project_id, 'ADDRESS')}")
        else:
            yield Finding(f"No webhook reports what is saved to {shown}/webhook: corrections do not arrive.", connect)
        return
    if not hook.get("is_active", True) or not hook.get("send_payload", True):
        yield Finding("The webhook is switched off, or sends no payload: corrections do not arrive.", connect)
    elif not hook.get("send_for_all_actions", True):
        yield Finding("The webhook is not sent every event: some corrections do not arrive.", connect)
    if settings.basic_auth and not urlsplit(url).username:
        given = {str(name).lower(): value for name, value in dict(hook.get("headers") or {}).items()}
        if given.get("authorization") != authorization(settings.basic_auth):
            yield Finding(
                "The webhook does not give the user name and password of the ML backend, which refuses corrections.",
                connect,
            )
    if _is_private(url):
        try:
            client.update_webhook(hook["id"], url=address)  # changes nothing: Label Studio checks the address again
        except LabelStudioRefusalError as error:
            if not address_refused(error):
                raise
            yield Finding(*_split(private(shown)))


def _prelabelling(
    client: LabelStudio, found: Mapping[str, Any], record: Mapping[str, Any], connect: str
) -> Iterable[Finding]:
    if not found.get("show_collab_predictions", True):
        yield Finding("Prelabelling is switched off: tasks open without their drafts.", connect)
        return
    shown = found.get("model_version")
    if shown != record.get("title", TITLE) and shown not in client.model_versions(int(found["id"])):
        yield Finding(
            f"The label stream shows no drafts: the project takes predictions of {shown or 'no model'}, not of "
            f"{record.get('title', TITLE)}.",
            connect,
        )


def _connect(settings: Settings, project_id: int, url: str | None) -> str:
    """The command that connects the project, at the address that Label Studio knows."""
    words = ["connect", "--project", str(project_id)]
    if url is not None and _shown(url) != settings.backend_url:
        words += ["--backend-url", _shown(url)]
    return f"Run `{typed(settings.data_dir, *words)}`."


def _shown(url: str) -> str:
    """The address without a user name and password in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _split(sentence: str) -> tuple[str, str]:
    """What is wrong, and what to do."""
    problem, _, remedy = sentence.partition("; ")
    return f"{problem}.", remedy[:1].upper() + remedy[1:]


def _elsewhere(settings: Settings, url: str) -> str:
    """A sentence where the backend listens on loopback and is asked for at another address."""
    mine, named = (urlsplit(each).hostname or "" for each in (settings.backend_url, url))
    loopback = {"127.0.0.1", "localhost", "::1"}
    if settings.host in loopback and named not in loopback and mine != named:
        password = "" if settings.basic_auth else " together with BASIC_AUTH_USER and BASIC_AUTH_PASS"
        return f"The backend listens on {settings.host} only: set CAPTIONER_HOST=0.0.0.0 (--host){password}. "
    return ""


def _is_private(url: str) -> bool:
    """Whether the address is one that Label Studio bans by default, as far as this machine knows the name."""
    try:
        return any(not is_public(each) for each in resolve_host(urlsplit(url).hostname or "", 80))
    except (OSError, UnicodeError):
        return False
