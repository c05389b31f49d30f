"""The whole examination, and its report for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

from backend.domain.errors import SettingsError
from backend.label_studio.client import LabelStudio
from backend.reports.doctor import data, machine, projects, services
from backend.reports.doctor.checks import Check, Finding, Result, run
from backend.settings import Settings
from backend.settings.values import password_in
from backend.store.registry import Registry
from backend.store.store import Store
from backend.system.typed import typed
from training.runtime.console import counted

HIDDEN = "(hidden)"


@dataclass(frozen=True)
class Diagnosis:
    """The results of all checks, and the names of those that others kept from running."""

    results: tuple[Result, ...]
    left_out: tuple[str, ...]

    @property
    def failed(self) -> bool:
        return any(result.failed for result in self.results)

    def to_json(self) -> dict[str, Any]:
        return {
            "failed": self.failed,
            "checks": [
                {
                    "name": result.name,
                    "failed": result.failed,
                    "findings": [asdict(finding) for finding in result.findings],
                }
                for result in self.results
            ],
            "left_out": list(self.left_out),
        }


def examine(settings: Settings, project_id: int | None = None) -> Diagnosis:
    """Check everything, or of the projects this one alone. Nothing is changed; no finding names a secret."""
    url, key = settings.label_studio_url, settings.label_studio_api_key
    client = LabelStudio(url, key) if url and key else None
    known: list[int] = []
    found = {result.name: result for result in run(_first(settings, client, known))}
    works = {name for name, result in found.items() if not result.failed}
    store = Store(settings.database_url, settings.data_dir) if "database" in works else None
    later, left_out = _later(settings, client, store, works, known if project_id is None else [project_id])
    try:
        results = [*found.values(), *run(later)]
    finally:
        if store is not None:
            store.close()
    return Diagnosis(tuple(_without(_secrets(settings), each) for each in results), tuple(left_out))


def misconfigured(error: SettingsError) -> Diagnosis:
    """Where the settings themselves are wrong, nothing can be checked."""
    remedy = "Correct these variables or flags; docs/settings.md lists all."
    return Diagnosis((Result("settings", (Finding(str(error), remedy),)),), ("everything else",))


def text(diagnosis: Diagnosis) -> str:
    """The report as lines for people."""
    width = max(map(len, [*(result.name for result in diagnosis.results), *diagnosis.left_out]))
    lines = []
    for result in diagnosis.results:
        if not result.findings:
            lines.append(f"✓ {result.name}")
        for finding in result.findings:
            lines.append(f"{'!' if finding.warning else '✗'} {result.name:{width}}  {finding.problem}")
            lines.append(f"  {'':{width}}  → {finding.remedy}")
    lines += [f"- {name:{width}}  is not checked before what is above is mended" for name in diagnosis.left_out]
    findings = [finding for result in diagnosis.results for finding in result.findings]
    warnings = sum(finding.warning for finding in findings)
    if findings:
        lines.append(f"{counted(len(findings) - warnings, 'fault')}, {counted(warnings, 'warning')}.")
    else:
        lines.append("Nothing is wrong.")
    return "\n".join(lines)


def _first(settings: Settings, client: LabelStudio | None, known: list[int]) -> list[Check]:
    """The checks that need no other. The projects of the database are added to `known`."""
    address = "Check LABEL_STUDIO_URL (--label-studio-url), and whether Label Studio is overloaded."
    redis = "Check REDIS_URL (--redis-url), and whether Redis is overloaded."
    disk = "Check the disk of the data folder, and whether a network file system answers."
    mlflow = "Check MLFLOW_TRACKING_URI, and whether that server is overloaded."
    told = [Check("mlflow", partial(services.mlflow, settings), mlflow)] if settings.mlflow_tracking_uri else []
    return [
        *told,
        Check("disk", partial(machine.disk, settings), disk),
        Check("device", partial(machine.computing, settings), "Set CAPTIONER_DEVICE=cpu (--device) until it answers."),
        Check("certificates", machine.certificates, "Check the files that REQUESTS_CA_BUNDLE and SSL_CERT_FILE name."),
        Check("database", partial(data.database, settings, known), data.DATABASE_REMEDY),
        Check("weights", partial(data.weights, settings), "Check the disk of the installation."),
        Check("redis", partial(services.redis, settings), redis),
        Check("label studio", partial(services.label_studio, settings, client), address),
    ]


def _later(
    settings: Settings, client: LabelStudio | None, store: Store | None, works: set[str], known: list[int]
) -> tuple[list[Check], list[str]]:
    """The checks that can be made where these work, and the names of the others."""
    serve = f"Read the log of the ML backend, and start `{typed(settings.data_dir, 'serve')}` again."
    checks, left_out = [Check("backend", partial(services.backend, settings, store), serve)], []
    if "redis" in works:
        start = f"Start `{typed(settings.data_dir, 'worker')}` again."
        checks.append(Check("worker", partial(services.worker, settings), start))
    else:
        left_out.append("worker")
    if store is None:
        return checks, [*left_out, "champions", "projects"]
    there = partial(data.champions, settings, Registry(store))
    checks.append(Check("champions", there, "Check the disk of the data folder."))
    if client is None or "label studio" not in works:
        return checks, [*left_out, "projects"]
    ask = "Read Label Studio's log: it asks the ML backend before it answers."
    for each in known:
        checks.append(Check(f"project {each}", partial(projects.project, settings, client, each), ask))
    if not known:
        checks.append(Check("projects", _none, ask))
    return checks, left_out


def _none() -> Iterable[Finding]:
    yield Finding(
        "No project is connected.", "Run `captioner connect --project N`, or `captioner up`, which makes one.", True
    )


def _secrets(settings: Settings) -> set[str]:
    """What no report may name, in every form."""
    password = password_in(settings.label_studio_url or "")
    return {*settings.secrets, *((password, unquote(password)) if password else ())}


def _without(secrets: set[str], result: Result) -> Result:
    def hidden(sentence: str) -> str:
        for secret in sorted(secrets, key=len, reverse=True):
            sentence = sentence.replace(secret, HIDDEN)
        return sentence

    findings = (replace(each, problem=hidden(each.problem), remedy=hidden(each.remedy)) for each in result.findings)
    return replace(result, findings=tuple(findings))
