"""What a web process counts for /metrics; of several processes, what all of them have counted.

Jobs run in other processes: what they come to is read from Redis and SQL when somebody asks. No label holds a caption,
a name of an image or anything else that a user types.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from backend.system.processes import COUNTED_IN

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 75.0)
IMAGES = (1, 2, 4, 8, 16, 32)

_COUNTED = CollectorRegistry()

REQUESTS = Counter("captioner_requests", "Requests answered.", ["endpoint", "status"], registry=_COUNTED)
REQUEST_SECONDS = Histogram(
    "captioner_request_seconds", "Time to answer a request.", ["endpoint"], buckets=SECONDS, registry=_COUNTED
)
PREDICTIONS = Counter(
    "captioner_predictions",
    "Tasks asked for, by what they got: a new draft, a stored one, a correction of nearly the same image, a caption "
    "completed from a hint, or none.",
    ["result"],
    registry=_COUNTED,
)
PHASE_SECONDS = Histogram(
    "captioner_phase_seconds",
    "Time of an image in each phase: fetch, decode, queue (all waiting for threads and the model); of a batch: model.",
    ["phase"],
    buckets=SECONDS,
    registry=_COUNTED,
)
BATCH_IMAGES = Histogram("captioner_batch_images", "Images captioned together.", buckets=IMAGES, registry=_COUNTED)
CACHE = Counter(
    "captioner_cache",
    "Looked up in a cache: drafts in SQL, hypotheses in memory, images on disk.",
    ["cache", "result"],
    registry=_COUNTED,
)
IMAGES_WAITING = Gauge(
    "captioner_images_waiting",
    "Images of requests that wait for their captions.",
    ["lane"],
    multiprocess_mode="livesum",
    registry=_COUNTED,
)
EVENTS = Counter("captioner_events", "Events that Label Studio sent.", ["action"], registry=_COUNTED)
CORRECTIONS = Counter("captioner_corrections", "Usable corrections that these events brought.", registry=_COUNTED)


def predicted(results: Mapping[str, int]) -> None:
    """Count what tasks got."""
    for result, number in results.items():
        if number:
            PREDICTIONS.labels(result).inc(number)


def looked_up(cache: str, hits: int, misses: int) -> None:
    """Count what a cache had and what it lacked."""
    if hits:
        CACHE.labels(cache, "hit").inc(hits)
    if misses:
        CACHE.labels(cache, "miss").inc(misses)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Count the time of the block, however it ends."""
    began = perf_counter()
    try:
        yield
    finally:
        PHASE_SECONDS.labels(name).observe(perf_counter() - began)


def counted() -> CollectorRegistry:
    """What all processes of this server have counted."""
    folder = os.environ.get(COUNTED_IN)
    if not folder:
        return _COUNTED
    registry = CollectorRegistry()
    MultiProcessCollector(registry, folder)
    return registry
