"""The figures of `benchmarks.soak`: what each means, and how they follow from what was written down."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from backend.store.retrains import DONE, FAILED
from backend.store.store import Store
from benchmarks.report import percentile
from benchmarks.soak_clients import Clients
from benchmarks.soak_faults import Schedule
from benchmarks.soak_ledger import (
    EXPECTED,
    LIMIT_SECONDS,
    Ledger,
    Window,
    champion_moves,
    differences,
    judge,
    repeated_revisions,
    stored_numbers,
)
from benchmarks.soak_studio import PROJECT
from benchmarks.soak_watch import Agreement, growth

NAMED = 50
"""So many wrong ones are listed."""
MEANINGS = {
    "minutes": "min of work and faults",
    "faults": "that began",
    "sent": "webhooks sent, each once",
    "acknowledged": "of them answered 200",
    "late": f"of these after more than {LIMIT_SECONDS:g} s: Label Studio would have given up",
    "lost": "acknowledged and not in the database (target: 0)",
    "duplicated": "in the database more than once, as events or revisions (target: 0)",
    "differ": "annotations of which the database says something else than Label Studio, at the end (target: 0)",
    "predicts": "requests for drafts",
    "drafts": "drafts in their answers",
    "without_draft": "tasks in them without one",
    "wrong_versions": "drafts by a version that was no champion within 5 s, without a fault's excuse (target: 0)",
    "old_versions": "drafts by an earlier champion while a fault kept the newer one away",
    "failed_refused": "requests that no server took: both were down",
    "failed_dropped": "requests whose connection broke: the server was killed",
    "failed_timed_out": "requests not answered in time",
    "failed_503": "requests answered 503, with a sentence",
    "failed_other": "requests answered with another error (target: 0)",
    "failed_without_fault": "failed requests while no fault acted",
    "promotions": "moves of the champion, those by the gate included",
    "agreements": "champions that both servers served outside of faults before another came",
    "agree_median_s": "s until both servers serve one, outside of faults, median",
    "agree_max_s": "s, the longest (target: 5)",
    "agree_fault_max_s": "s, the longest while a fault acted",
    "retrains": "that finished",
    "retrains_failed": "that failed",
    "stored": "drafts that workers stored in Label Studio",
    "commands": "of an operator",
    "commands_failed": "of them that failed with a sentence, or took longer than a minute",
    "tracebacks": "in logs and of commands (target: 0)",
    "killed": "processes that were killed",
    "restarts": "processes that were started again",
    "persons": "recoveries that needed a person (target: 0)",
    "aborted": "1 where the run did not come to its end (target: 0)",
} | {
    f"{kind}_{name}": f"{meaning}, {of}"
    for kind, of in (("web", "the process that serves"), ("worker", "the process that takes jobs"))
    for name, meaning in {
        "first_mb": "MB resident in the first quarter, median",
        "last_mb": "MB in the last quarter",
        "first_files": "open files in the first quarter, median",
        "last_files": "open files in the last quarter",
        "longest_seconds": "s that the one lived which lived longest",
        "longest_growth_mb": "MB by which that one grew, from the second quarter of its life to the last",
        "longest_growth_files": "open files by which it grew",
    }.items()
}
WANTED_ZERO = (
    "lost",
    "duplicated",
    "differ",
    "wrong_versions",
    "failed_other",
    "tracebacks",
    "persons",
    "aborted",
)


def count(clients: Clients, schedule: Schedule) -> tuple[dict[str, float], dict[str, Any]]:
    """The figures after the run, and what a person wants to read where they are not as wanted."""
    world, ledger, store = clients.world, clients.ledger, clients.world.store
    schedule.close()
    moves = champion_moves(store)
    versions = judge(ledger.served, moves, schedule.windows)
    retrains = store.retrains(PROJECT, 10_000)
    stored = stored_numbers(store)
    lost = sorted(ledger.acknowledged.keys() - stored.keys())
    differing = differences(store, world.studio.texts())
    logs = world.hosts.logs()
    failed = clients.failed_commands
    figures: dict[str, float] = {
        "faults": sum(each.name != "nothing" for each in schedule.windows),
        "sent": len(ledger.sent),
        "acknowledged": len(ledger.acknowledged),
        "late": sum(seconds > LIMIT_SECONDS for seconds in ledger.acknowledged.values()),
        "lost": len(lost),
        "duplicated": sum(number > 1 for number in stored.values()) + repeated_revisions(store),
        "differ": len(differing),
        "wrong_versions": len(versions.wrong),
        "old_versions": versions.excused,
        **_requests(ledger, schedule.windows),
        "promotions": len(moves) - 1,
        **_agreements(world.watch.agreements, schedule.windows),
        "retrains": sum(each.state == DONE for each in retrains),
        "retrains_failed": sum(each.state == FAILED for each in retrains),
        "stored": world.studio.predicted().total(),
        "commands": clients.commands.total(),
        "commands_failed": failed["refused"] + failed["unfinished"],
        "tracebacks": failed["traceback"] + sum(log.count("Traceback (most recent") for log in logs.values()),
        "killed": world.hosts.killed.total(),
        "restarts": world.hosts.restarts.total(),
        "persons": len(schedule.persons),
    }
    for kind in ("web", "worker"):
        figures |= growth(world.watch.samples, kind)
    return figures, {
        "persons": schedule.persons,
        "wrong_versions": [asdict(each) for each in versions.wrong[:NAMED]],
        "lost": lost[:NAMED],
        "differing": _differing(store, differing[:NAMED], world.studio.texts()),
        "failed_retrains": [each.outcome for each in retrains if each.state == FAILED],
        "commands": clients.sentences,
        "moves": [asdict(each) for each in moves],
        "agreements": [asdict(each) for each in world.watch.agreements],
        "faults": [asdict(each) for each in schedule.windows],
        "failures": [asdict(each) for each in ledger.failures],
        "samples": [asdict(each) for each in world.watch.samples],
    }


def _requests(ledger: Ledger, windows: Sequence[Window]) -> dict[str, float]:
    causes = ledger.by_cause()
    return {
        "predicts": ledger.asked["predict"],
        "drafts": len(ledger.served),
        "without_draft": ledger.without_draft,
        **{f"failed_{cause}": causes[cause] for cause in (*EXPECTED, "other")},
        "failed_without_fault": sum(not _meets(windows, each.begun, each.at) for each in ledger.failures),
    }


def _agreements(found: Sequence[Agreement], windows: Sequence[Window]) -> dict[str, float]:
    hindering = [each for each in windows if each.excuses]
    within = [each for each in found if _meets(hindering, each.at, each.at + each.seconds)]
    free = [each.seconds for each in found if each not in within]
    figures = {"agreements": float(len(free))}
    if free:
        figures |= {"agree_median_s": statistics.median(free), "agree_max_s": percentile(free, 1.0)}
    if within:
        figures["agree_fault_max_s"] = max(each.seconds for each in within)
    return figures


def _meets(windows: Sequence[Window], begun: float, ended: float) -> bool:
    return any(each.meets(begun, ended) for each in windows)


def _differing(store: Store, ids: Sequence[int], truth: dict[int, str | None]) -> list[Any]:
    """These annotations, with what both say."""
    known = {each.annotation_id: each.texts for each in store.corrections(PROJECT, usable=False)}
    return [[id_, truth.get(id_), known.get(id_)] for id_ in ids]
