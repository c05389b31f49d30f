"""The text for Prometheus: what the processes of this server have counted, and what SQL, Redis and the GPU say now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backend.domain.errors import CaptionerError
from backend.queue import QUEUES
from backend.reports.overview.project import follows
from backend.store.database import now
from backend.store.registry import DEFAULT
from backend.store.totals import Totals
from backend.system import metrics
from backend.web.services import Services

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(services: Services) -> bytes:
    """Metrics in the text format of Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Read(services))
    return generate_latest(metrics.counted()) + generate_latest(registry)


class _Read(Collector):
    """What is read at the time of asking, so that it is right whichever process is asked. What cannot be read is left
    out, and `captioner_up` says so."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("captioner_up", "Whether it answers: the database, Redis.", labels=["part"])
        parts: tuple[tuple[str, Callable[[Services], list[Metric]]], ...] = (("database", _sql), ("redis", _queue))
        for part, read in parts:
            try:
                found = read(self._services)
            except CaptionerError:
                up.add_metric([part], 0)
                continue
            up.add_metric([part], 1)
            yield from found
        yield up
        yield from _gpu(self._services)


def _sql(services: Services) -> list[Metric]:
    totals, champions = services.store.totals(), services.registry.champions()
    of_project = partial(_each, totals)
    lag = of_project(
        GaugeMetricFamily,
        "captioner_inbox_lag_seconds",
        "Since when a correction has not reached the drafts of waiting tasks; 0: all have.",
        lambda each: _age(each.behind_since) if champions.keys() & {each.project_id, DEFAULT} else 0.0,
    )
    return [
        of_project(
            GaugeMetricFamily,
            "captioner_corrections_waiting",
            "Usable corrections since the last retrain that succeeded, counted up to 10,000.",
            lambda each: each.waiting,
        ),
        *([lag] if follows(services.settings) else []),
        of_project(
            CounterMetricFamily,
            "captioner_repairs",
            "Changes that no webhook reported and a comparison with Label Studio took in.",
            lambda each: each.repaired,
        ),
        of_project(
            GaugeMetricFamily,
            "captioner_comparison_age_seconds",
            "Since the last comparison with Label Studio that succeeded; NaN: there was none.",
            lambda each: _age(each.compared_at) if each.compared_at else float("nan"),
        ),
        of_project(
            GaugeMetricFamily,
            "captioner_comparison_failing",
            "Whether the last comparison with Label Studio failed.",
            lambda each: each.comparison_fails,
        ),
        _kinds(totals, "captioner_retrains", "Retrains by what became of them.", "state", lambda each: each.retrains),
        _kinds(totals, "captioner_verdicts", "Versions by their verdict.", "verdict", lambda each: each.verdicts),
        _champions(champions),
    ]


def _queue(services: Services) -> list[Metric]:
    depth = GaugeMetricFamily("captioner_jobs", "Jobs in the queues of the workers.", labels=["queue", "state"])
    for name in QUEUES:
        for state, number in services.queue.depths(name).items():
            depth.add_metric([name, state], number)
    workers = GaugeMetricFamily("captioner_workers", "Workers that run.", value=services.queue.workers())
    ended = CounterMetricFamily("captioner_jobs_ended", "Jobs that ended.", labels=["job", "outcome"])
    for (job, outcome), number in services.queue.ended().items():
        ended.add_metric([job, outcome], number)
    return [depth, workers, ended]


def _gpu(services: Services) -> list[Metric]:
    """Of the devices that champions are on, whatever uses their memory."""
    used = GaugeMetricFamily("captioner_gpu_memory_used_bytes", "Memory of the GPU that is in use.", labels=["device"])
    whole = GaugeMetricFamily("captioner_gpu_memory_bytes", "Memory of the GPU.", labels=["device"])
    memory = services.champions.device_memory()
    for device, (in_use, total) in memory.items():
        used.add_metric([device], in_use)
        whole.add_metric([device], total)
    return [used, whole] if memory else []


def _each(
    totals: list[Totals],
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    meaning: str,
    value: Callable[[Totals], float],
) -> Metric:
    """One figure of each project."""
    found = family(name, meaning, labels=["project"])
    for each in totals:
        found.add_metric([str(each.project_id)], value(each))
    return found


def _kinds(
    totals: list[Totals], name: str, meaning: str, label: str, value: Callable[[Totals], Mapping[str, int]]
) -> Metric:
    found = GaugeMetricFamily(name, meaning, labels=["project", label])
    for each in totals:
        for kind, number in sorted(value(each).items()):
            found.add_metric([str(each.project_id), kind], number)
    return found


def _champions(champions: dict[int, str]) -> Metric:
    found = GaugeMetricFamily(
        "captioner_champion",
        "The version that serves; project 0: those without their own.",
        labels=["project", "version"],
    )
    for project_id, version in sorted(champions.items()):
        found.add_metric([str(project_id), version], 1)
    return found


def _age(moment: datetime | None) -> float:
    return 0.0 if moment is None else max(0.0, (now() - moment).total_seconds())
