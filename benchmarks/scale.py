"""What grows with the number of corrections, tasks, versions and projects, and by how much.

    python -m benchmarks.scale [--tasks 100000] [--projects 50] [--postgresql] [--quick]

Three backends are filled: one with many corrections in one of its projects, one with a hundredth of them, and one with
as few and that project alone. All is asked for in turn of the three within one process, so that what else runs on the
machine slows them alike. The captioner costs next to nothing, and Label Studio is a list of tasks on loopback, so that
neither hides what grows.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks import scale_work
from benchmarks.report import report
from benchmarks.scale_asks import POLLS, REQUESTS, Ask
from benchmarks.scale_stores import Backend, Size, cpu_seconds, filled, sizes_of
from benchmarks.services import PostgreSQL

MANY, FEW, LONE = "many", "few", "lone"
FEWER = 100
TIMES, FEW_VERSIONS, MANY_VERSIONS = 5, 20, 200


@click.command()
@click.option("--tasks", default=100_000, help="Corrected tasks of the project with many.")
@click.option("--projects", default=50, help="Projects of that backend.")
@click.option("--postgresql", is_flag=True, help="A throw-away PostgreSQL in place of SQLite.")
@click.option("--quick", is_flag=True, help="A smoke run: few tasks and projects.")
def main(tasks: int, projects: int, postgresql: bool, quick: bool) -> None:
    tasks, projects, times = (500, 2, 2) if quick else (tasks, projects, TIMES)
    few, versions = max(tasks // FEWER, 20), 40 if quick else MANY_VERSIONS
    sizes = {
        MANY: Size(tasks, versions, projects),
        FEW: Size(few, FEW_VERSIONS, projects),
        LONE: Size(few, FEW_VERSIONS, 1),
    }
    with tempfile.TemporaryDirectory(prefix="captioner-scale-") as name, ExitStack() as stack:
        server = stack.enter_context(PostgreSQL()) if postgresql else None
        backends = {each: stack.enter_context(filled(Path(name) / each, size, server)) for each, size in sizes.items()}
        figures: dict[str, float] = {"tasks": tasks, "few": few, "projects": projects}
        figures["corrections_filled_per_s"] = tasks / backends[MANY].seconds
        figures |= _database(backends)
        click.echo(figures, err=True)
        for asks in (REQUESTS, POLLS):
            figures |= _growth(backends, asks, times)
        figures |= scale_work.measure(backends[MANY], backends[FEW])
    report("scale", figures, _meanings(figures))


def _growth(backends: Mapping[str, Backend], asks: Mapping[str, Ask], times: int) -> dict[str, float]:
    """Of each the median CPU time with many, in milliseconds, and how many times as much that is as with few; and how
    many times as much it is with few and all projects as where there is one project."""
    figures: dict[str, float] = {}
    for what, ask in asks.items():
        taken: dict[str, list[float]] = {each: [] for each in backends}
        for _ in range(times + 1):
            for each, backend in backends.items():
                taken[each].append(cpu_seconds(ask(backend)))
        median = {each: statistics.median(found[1:]) for each, found in taken.items()}  # the first one fills caches
        found = {
            f"{what}_ms": 1000 * median[MANY],
            f"{what}_ratio": median[MANY] / median[FEW],
            f"{what}_projects": median[FEW] / median[LONE],
        }
        click.echo(found, err=True)
        figures |= found
    return figures


def _database(backends: Mapping[str, Backend]) -> dict[str, float]:
    """Bytes of the database for each correction, by table."""
    many, few = (sizes_of(backends[each].services) for each in (MANY, FEW))
    more = backends[MANY].size.corrections - backends[FEW].size.corrections
    figures = {"database_mb": sum(many.values()) / 1e6}
    grown = {table: (many[table] - few.get(table, 0)) / more for table in many}
    for table, each in sorted(grown.items(), key=lambda item: -item[1]):
        if each >= 1:
            figures[f"{table}_bytes"] = each
    return figures


def _meanings(figures: Mapping[str, float]) -> dict[str, str]:
    known = {**scale_work.MEANINGS, "tasks": "corrected tasks of the project with many", "few": "and with few"}
    known |= {"projects": "projects of both", "database_mb": "MB, the database with many"}
    known |= {"corrections_filled_per_s": "corrections recorded in one second while it was filled, all else included"}
    ends: dict[str, str] = {
        "_ms": "ms of CPU time with many, median",
        "_s": "s of CPU time with many",
        "_ratio": "times as much as with few",
        "_projects": "times as much with few as where it is the only project",
        "_bytes": "bytes of this table for each correction, indexes included",
    }
    return {
        each: known.get(each) or next((text for end, text in ends.items() if each.endswith(end)), "")
        for each in figures
    }


if __name__ == "__main__":
    main()
