"""The parts of `benchmarks.soak`: would it notice what it is there to notice?"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from backend.corrections.reconcile import reconcile
from backend.domain.errors import LabelStudioError
from backend.label_studio import wire
from backend.label_studio.client import LabelStudio
from backend.label_studio.predictions import Predictions
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.store import Store
from benchmarks import soak
from benchmarks.services import S3
from benchmarks.soak_faults import FAULTS, PAUSE_SECONDS, RECOVERY_SECONDS, Fault, Schedule
from benchmarks.soak_hosts import Hosts
from benchmarks.soak_ledger import (
    MARK,
    Ledger,
    Move,
    Served,
    Window,
    cause_of,
    champion_moves,
    differences,
    judge,
    repeated_revisions,
    stored_numbers,
)
from benchmarks.soak_studio import CONFIG, FAILING, GARBAGE, PROJECT, WELL, Studio, serving
from benchmarks.soak_watch import Sample, growth
from tests import factories
from tests.fakes import host


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path}/captioner.db", tmp_path)
    made.migrate()
    made.save_project(PROJECT, CONFIG)
    yield made
    made.close()


@pytest.fixture
def studio() -> Iterator[Studio]:
    made = Studio()
    with serving(made):
        yield made


def _received(store: Store, body: dict[str, Any], number: int) -> None:
    """As /webhook does."""
    store.record(wire.event({**body, MARK: number}, store.label_config))


def test_what_was_acknowledged_and_is_not_in_the_database_is_found(store: Store) -> None:
    studio, ledger = Studio(), Ledger()
    task = studio.add_task("/data/upload/1/1.png")
    bodies = [studio.annotate(task["id"], text, annotator=1) for text in ("a dot", "a red dot", "a square")]
    bodies.append(studio.change(bodies[0]["annotation"]["id"], "a blue dot"))
    bodies.append(studio.delete(bodies[1]["annotation"]["id"]))
    numbers = [ledger.send() for _ in bodies]
    for number, body in zip(numbers, bodies, strict=True):
        ledger.acknowledge(number, 0.1)
        if number != numbers[2]:
            _received(store, body, number)
    assert ledger.acknowledged.keys() - stored_numbers(store).keys() == {numbers[2]}
    assert differences(store, studio.texts()) == [bodies[2]["annotation"]["id"]]
    _received(store, bodies[2], numbers[2])
    assert differences(store, studio.texts()) == []
    assert repeated_revisions(store) == 0
    assert max(stored_numbers(store).values()) == 1
    _received(store, bodies[2], numbers[2])
    assert stored_numbers(store)[numbers[2]] == 2


@pytest.mark.parametrize(
    ("version", "sent", "answered", "wrong", "excused"),
    [
        ("first", 105, 106, 0, 0),
        ("first", 124, 124.5, 0, 0),  # within five seconds of the promotion
        ("first", 126, 126.5, 1, 0),
        ("first", 131, 132, 0, 1),  # a fault kept the new one away
        ("second", 119, 121, 0, 0),  # promoted meanwhile
        ("second", 110, 111, 1, 0),  # not promoted yet
        ("untrained", 110, 111, 1, 0),
        ("candidate", 131, 132, 1, 0),  # no fault excuses a version that was never champion
    ],
)
def test_a_draft_by_a_version_that_was_not_champion_is_found(
    version: str, sent: float, answered: float, wrong: int, excused: int
) -> None:
    moves = [Move(100, "first"), Move(120, "second")]
    windows = [Window("Redis gone", 100, 200, excuses=False)]
    windows += [Window("S3 gone", 118, 140)] if sent > 130 else []
    found = judge([Served(sent, answered, version)], moves, windows)
    assert (len(found.wrong), found.excused) == (wrong, excused)


def test_champions_are_read_in_order_and_the_default_serves_where_there_is_no_own(store: Store) -> None:
    registry = Registry(store)
    for name in ("first", "p1-v1"):
        registry.register(ModelVersion(name, factories.checkpoint(Path(store.data_dir or ".") / "models" / name)))
    registry.promote(DEFAULT, "first", "", "")
    registry.promote(PROJECT, "p1-v1", "", "")
    registry.rollback(PROJECT)
    assert [move.version for move in champion_moves(store)] == ["first", "p1-v1", "first"]


def test_failed_requests_are_told_apart() -> None:
    with host() as server:
        server.answers["/closed"] = lambda handler: None
        with pytest.raises(requests.ConnectionError) as dropped:
            requests.get(f"{server.url}/closed", timeout=5)
        gone = server.url
    with pytest.raises(requests.ConnectionError) as refused:
        requests.get(gone, timeout=5)
    assert [cause_of(dropped.value), cause_of(refused.value)] == ["dropped", "refused"]
    assert [cause_of(requests.ReadTimeout()), cause_of(503), cause_of(500)] == ["timed_out", "503", "500"]
    ledger = Ledger()
    for status in (503, 500, 404):
        ledger.fail("predict", time.time(), status)
    assert ledger.by_cause() == {"503": 1, "other": 2}


def test_the_small_label_studio_answers_what_a_comparison_asks(store: Store, studio: Studio) -> None:
    client = LabelStudio(studio.url, "0" * 40)
    tasks = [studio.add_task(f"/data/upload/1/{number}.png") for number in range(3)]
    kept, gone = (studio.annotate(tasks[n]["id"], "a dot", annotator=1)["annotation"]["id"] for n in (0, 1))
    assert reconcile(PROJECT, client, store).repairs == {"tasks_created": 3, "created": 2}
    studio.delete(gone)
    studio.change(kept, "a red dot")
    assert reconcile(PROJECT, client, store, complete=False).missed == {"deleted": 1, "updated": 1}
    assert differences(store, studio.texts()) == []
    assert [found["id"] for found in studio.unlabelled()] == [task["id"] for task in tasks[1:]]


def test_the_small_label_studio_keeps_predictions(studio: Studio) -> None:
    client = LabelStudio(studio.url, "0" * 40)
    tasks = [studio.add_task(f"/data/upload/1/{number}.png")["id"] for number in range(3)]
    studio.annotate(tasks[2], "a dot", annotator=1)
    made = [{"task": id_, "model_version": "v1", "score": 0.5, "result": []} for id_ in tasks]
    assert Predictions(client, PROJECT).store(made) == 3
    assert client.model_versions(PROJECT) == {"v1": 3}
    listed, total = client.unlabelled(PROJECT, 0, 1, set(), version="v1")
    assert ([task["id"] for task in listed], total) == (tasks[:1], 2)
    [prediction] = listed[0]["predictions"]
    client.update_prediction(prediction["id"], score=0.75)
    assert client.full_tasks(PROJECT, tasks[:1], set())[0]["predictions"][0]["score"] == 0.75
    client.delete_prediction(prediction["id"])
    assert client.unlabelled(PROJECT, 0, 9, set(), version="v1")[1] == 1
    assert client.tasks_being_edited(PROJECT, tasks) == set()


@pytest.mark.parametrize("mode", [FAILING, GARBAGE])
def test_the_small_label_studio_can_be_broken_and_mended(studio: Studio, mode: str) -> None:
    client = LabelStudio(studio.url, "0" * 40)
    studio.mode = mode
    with pytest.raises(LabelStudioError):
        client.project(PROJECT)
    studio.mode = WELL
    assert client.project(PROJECT)["label_config"] == CONFIG


class _World:
    """What a schedule asks of it, with a recovery that is told."""

    def __init__(self, seed: int, small_disk: bool = False) -> None:
        self.rng = random.Random(seed)
        self.small_disk = small_disk
        self.well = True
        self.watch = SimpleNamespace(are_well=lambda since: self.well)


def _schedule(world: _World, *faults: Fault) -> Schedule:
    return Schedule(world, 0.0, faults or FAULTS)  # type: ignore[arg-type]


def test_faults_are_drawn_by_the_seed_and_each_comes_before_one_comes_again() -> None:
    drawn = {seed: [_schedule(_World(seed)).draw().name for _ in range(1)] for seed in range(9)}
    assert len({name for names in drawn.values() for name in names}) > 1
    first, second = (_schedule(_World(3)) for _ in range(2))
    names = [first.draw().name for _ in range(15)]
    assert names == [second.draw().name for _ in range(15)]
    assert sorted(names) == sorted(each.name for each in FAULTS if each.name != "disk full")
    with_disk = _schedule(_World(3, small_disk=True))
    assert "disk full" in {with_disk.draw().name for _ in range(16)}


def test_a_fault_lasts_until_all_is_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    said: list[str] = []

    def begin(world: Any) -> Any:
        said.append("begun")
        return lambda: said.append("ended")

    world = _World(1)
    schedule = _schedule(world, Fault("gone", begin, seconds=20, excuses=5))
    schedule.tick()
    clock.now += 19
    schedule.tick()
    assert (said, schedule.windows) == (["begun"], [])
    world.well = False
    clock.now += 2
    schedule.end()
    clock.now += 10
    schedule.look_for_recovery()
    assert (said, schedule.windows) == (["begun", "ended"], [])
    world.well = True
    schedule.look_for_recovery()
    [window] = schedule.windows
    assert (window.name, round(window.ended - window.begun), window.excuses) == ("gone", 36, True)
    assert schedule.persons == []


def test_what_is_not_well_long_after_a_fault_needs_a_person_and_no_other_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    begun: list[float] = []

    def begin(world: Any) -> Any:
        begun.append(clock.now)
        return lambda: None

    world = _World(1)
    schedule = _schedule(world, Fault("gone", begin))
    schedule.tick()
    world.well = False
    schedule.end()
    for seconds in (PAUSE_SECONDS + 1, RECOVERY_SECONDS - PAUSE_SECONDS - 2):
        clock.now += seconds
        schedule.tick()
    assert (len(begun), schedule.persons) == (1, [])
    clock.now += 2
    schedule.tick()
    assert schedule.persons == [f"gone: not well {RECOVERY_SECONDS:.0f} s later"]
    schedule.tick()
    assert len(begun) == 2


def test_a_fault_that_cannot_begin_or_end_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    failing = iter([RuntimeError("no database"), None])

    def begin(world: Any) -> Any:
        if error := next(failing):
            raise error
        return end

    ends = iter([RuntimeError("not yet"), None])

    def end() -> None:
        if error := next(ends):
            raise error

    schedule = _schedule(_World(1), Fault("gone", begin))
    for _ in range(4):
        schedule.tick()
    assert [window.name for window in schedule.windows] == ["gone"]
    said = capsys.readouterr().err
    assert "gone could not begin: RuntimeError('no database')" in said
    assert "gone could not end, and is tried again: RuntimeError('not yet')" in said


def test_a_killed_process_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts(tmp_path, tmp_path / "logs", {}, random.Random(1))
    clock = SimpleNamespace(now=1000.0)
    hosts.children = {"worker-1": hosts.children["worker-1"]}
    child = hosts.children["worker-1"]
    monkeypatch.setattr(child, "_argv", [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr("benchmarks.soak_hosts.time", SimpleNamespace(monotonic=lambda: clock.now))
    child.start()
    first = child.pid
    hosts.kill("worker-1")
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    hosts.supervise()
    assert not child.alive
    clock.now += 3
    hosts.supervise()
    assert child.alive
    assert (child.pid != first, hosts.restarts["worker-1"]) == (True, 1)
    hosts.stop()
    assert not child.alive


def test_growth_is_that_of_the_process_that_lived_longest() -> None:
    old = [Sample(at, "web", "web-1 7", 1e6 * (100 + at), 10 + at // 40) for at in range(80)]
    young = [Sample(at, "web", "web-2 8", 50e6, 20) for at in range(70, 80)]
    found = growth([*old, *young], "web")
    assert found["web_longest_growth_mb"] == pytest.approx(40, abs=1)
    assert found["web_longest_growth_files"] == 1
    assert found["web_longest_seconds"] == 79
    assert growth(old, "worker") == {}


@pytest.mark.slow
def test_an_s3_server_that_was_stopped_has_what_it_had() -> None:
    pytest.importorskip("moto.server")
    with S3() as server:
        address = f"{server.environ['AWS_ENDPOINT_URL']}/captioner/kept"
        requests.put(address, data=b"content", headers={"x-amz-acl": "public-read"}, timeout=5).raise_for_status()
        server.stop()
        with pytest.raises(requests.ConnectionError):
            requests.get(address, timeout=5)
        server.start()
        assert requests.get(address, timeout=5).content == b"content"


@pytest.mark.parametrize("how", ["fails", "is ended"])
def test_a_run_that_does_not_come_to_its_end_says_so_and_gives_its_figures(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*given: Any) -> Any:
        if how == "fails":
            raise RuntimeError("no PostgreSQL")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

    monkeypatch.setattr(soak, "_started", start)
    monkeypatch.setattr(soak, "SCENES", -soak.LEARNED)
    monkeypatch.setattr("benchmarks.report.machine", dict)  # imports torch
    monkeypatch.setattr("benchmarks.soak_hosts._mount", lambda folder: False)
    done = CliRunner().invoke(soak.main, ["--quick"])
    assert done.exit_code == 1
    [line] = [each for each in done.stdout.splitlines() if each.startswith("{")]
    assert json.loads(line)["figures"]["aborted"] == 1
