"""Measures how fast the status page is with many corrections in the store, beside one with few.

    python -m benchmarks.status_page [--quick]

Both stores have the same versions, verdicts and retrains, and an embedded Redis of their own. Pages are asked for
within the process, in turn of the two stores, so that what else runs on the machine slows both. The first page of a
process also reads the templates.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click
from flask.testing import FlaskClient

from backend.web.app import create_app
from benchmarks import filling
from benchmarks.report import percentile, report

PROJECT, VERSIONS = 1, 20
BROWSER = {"Accept": "text/html"}
PATHS = {"page": f"/projects/{PROJECT}", "now": f"/projects/{PROJECT}/now", "overview": "/"}
MEANINGS = {
    "corrections": "corrections in the store with many",
    "first_ms": "ms, the first page of a process, with many",
    "page_ms": "ms, the page of a project, median, with many (wanted: 300)",
    "page_p90_ms": "ms, 90th percentile",
    "page_ratio": "times as long as with few",
    "now_ms": "ms, what a page asks for every two seconds while a retrain runs, median, with many",
    "now_ratio": "times as long as with few",
    "overview_ms": "ms, the overview, median, with many",
    "overview_ratio": "times as long as with few",
    "few": "corrections in the store with few",
    "few_page_ms": "ms, the page with few, median",
    "kilobytes": "kB, the page",
}


@click.command()
@click.option("--quick", is_flag=True, help="A smoke run: few corrections.")
def main(quick: bool) -> None:
    few, many, times = (100, 1000, 3) if quick else (1000, 100_000, 30)
    with tempfile.TemporaryDirectory(prefix="captioner-status-page-") as name, ExitStack() as stack:
        folder = Path(name)
        # The greater one first: its first page is the first of the process.
        clients = {number: stack.enter_context(_filled(folder / str(number), number)) for number in (many, few)}
        first, page = _asked(clients[many], PATHS["page"])
        taken: dict[tuple[str, int], list[float]] = {(what, number): [] for what in PATHS for number in clients}
        for _ in range(times):
            for what, path in PATHS.items():
                for number, client in clients.items():
                    taken[what, number].append(_asked(client, path)[0])
    medians = {key: statistics.median(each) for key, each in taken.items()}
    figures: dict[str, float] = {"corrections": many, "first_ms": first}
    for what in PATHS:
        figures[f"{what}_ms"] = medians[what, many]
        figures[f"{what}_ratio"] = medians[what, many] / medians[what, few]
    figures |= {
        "page_p90_ms": percentile(taken["page", many], 0.9),
        "few": few,
        "few_page_ms": medians["page", few],
        "kilobytes": len(page) / 1000,
    }
    report("status_page", {name: figures[name] for name in MEANINGS}, MEANINGS)


def _asked(client: FlaskClient, path: str) -> tuple[float, bytes]:
    """Milliseconds, and the page."""
    begun = time.perf_counter()
    answer = client.get(path, headers=BROWSER)
    milliseconds = 1000 * (time.perf_counter() - begun)
    if answer.status_code != 200:
        raise click.ClickException(f"{path} answered {answer.status_code}.")
    return milliseconds, answer.data


@contextmanager
def _filled(folder: Path, corrections: int) -> Iterator[FlaskClient]:
    """A backend whose store has so many corrections, each of a draft."""
    with filling.backend(folder, {}) as services:
        filling.add_versions(services, PROJECT, VERSIONS)
        filling.add_corrections(services, PROJECT, corrections, VERSIONS)
        yield create_app(services).test_client()


if __name__ == "__main__":
    main()
