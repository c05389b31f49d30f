"""What `captioner versions show` and `captioner quarantine` say."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from backend.cli.main import main
from backend.retraining.snapshot import RECORD, Record
from backend.store.registry import DEFAULT, NEW, REJECTED, ModelVersion, Registry
from backend.store.store import Store
from training.data import manifest
from training.data.manifest import DEV, HELD_OUT, TRAIN, Row
from training.gate import gate
from training.gate.gate import Evaluation, EvaluationSet


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    store = Store(f"sqlite:///{tmp_path / 'captioner.db'}")
    store.migrate()
    registry = Registry(store)
    rows = [Row(tmp_path / f"{n}.png", f"{n:064x}", ("a dog runs", "a dog"), TRAIN) for n in range(5)]
    rows += [
        Row(tmp_path / "8.png", "8" * 64, ("a cat",), DEV),
        Row(tmp_path / "9.png", "9" * 64, ("a cow",), HELD_OUT),
    ]
    listed = manifest.save(rows, tmp_path / "snapshots" / "1-7" / "manifest.jsonl")
    manifest.save(rows[:2], listed.with_name(NEW))
    registry.register(ModelVersion("starter", tmp_path / "starter"))
    good, bad = ("a dog runs over the grass",) * 120, ("a cat sleeps on a red sofa",) * 120
    references = (("a dog runs over the grass",),) * 120
    ours, theirs = (
        Evaluation(name, "held-out corrections", "hash", "beam:3", said, references, ("photo.jpg",) * 120)
        for name, said in (("p1-v1", bad), ("starter", good))
    )
    verdict = gate.judge([EvaluationSet(gate.CORRECTIONS, ours, theirs)]).to_json()
    registry.register(ModelVersion("p1-v1", tmp_path / "p1-v1", 1, "starter", listed, "1-7", verdict, state=REJECTED))
    return registry


def run(tmp_path: Path, *arguments: str) -> str:
    result = CliRunner().invoke(main, [arguments[0], "--data-dir", str(tmp_path), *arguments[1:]])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_version_leads_back_to_its_captions_and_its_parents(registry: Registry, tmp_path: Path) -> None:
    shown = run(tmp_path, "versions", "show", "p1-v1")
    assert "captions    12 of 7 images (1 dev, 1 held_out, 5 train), content " in shown
    assert "1-7: " in shown
    assert "verdict     reject" in shown
    assert shown.index("p1-v1 (rejected)") < shown.index("starter (registered)")
    assert "on photo.jpg of held-out corrections" in shown
    assert "a cat sleeps on a red sofa" in shown
    assert run(tmp_path, "versions").count("p1-v1") == 1


def test_a_snapshot_tells_what_it_was_frozen_from_and_whether_it_still_is_that(
    registry: Registry, tmp_path: Path
) -> None:
    assert "frozen" not in run(tmp_path, "versions", "show", "p1-v1"), "snapshots of before have no record"
    path = tmp_path / "snapshots" / "1-7" / "manifest.jsonl"
    record = Record(
        "1-7",
        1,
        7,
        "starter",
        "captioner 1.0",
        "b215644",
        "2026-11-20T20:30:00+00:00",
        manifest.hash_file(path),
        "",
        {},
        9,
    )
    path.with_name(RECORD).write_text(json.dumps(asdict(record)))
    shown = run(tmp_path, "versions", "show", "p1-v1")
    assert "frozen      2026-11-20 20:30 UTC up to event 7, under starter, by captioner 1.0 (b215644)" in shown
    assert f"unchanged   yes, sha256 {record.sha256[:16]}" in shown
    path.write_text(path.read_text() + "\n")
    assert "unchanged   no: The manifest " in run(tmp_path, "versions", "show", "p1-v1")
    path.with_name(RECORD).write_text("{")
    assert "frozen      unknown: The record " in run(tmp_path, "versions", "show", "p1-v1")


def test_a_version_says_when_it_was_champion_and_who_made_it_so(registry: Registry, tmp_path: Path) -> None:
    assert "champion    " not in run(tmp_path, "versions", "show", "p1-v1")
    registry.store.save_project(1, "<View/>")
    registry.promote(1, "starter", reason="the first", by="up")
    registry.promote(1, "p1-v1", reason="better at night", by="status page")
    registry.rollback(1)
    registry.promote(DEFAULT, "starter", reason="for all", by="operator")
    at = r"\d{4}-\d\d-\d\d \d\d:\d\d UTC"
    lines = [
        f"of project 1 from {at}, by status page: better at night; until {at}, by operator: rolled back",
        f"of every project without one of its own from {at}, by operator: for all",
        f"of project 1 from {at}, by up: the first; until {at}, by status page: better at night",
        f"of project 1 from {at}, by operator: rolled back",
    ]
    found = re.findall(r"champion    (of .*)", run(tmp_path, "versions", "show", "p1-v1"))
    assert [re.fullmatch(line, each) is not None for line, each in zip(lines, found, strict=True)] == [True] * 4
    [own, _] = json.loads(run(tmp_path, "versions", "show", "p1-v1", "--json"))["versions"]
    [term] = own["champion"]
    assert (term["project"], term["began"]["moved_by"], term["ended"]["reason"]) == (1, "status page", "rolled back")
    assert own["learned_first"] == 2


def test_an_unknown_version_is_one_sentence(registry: Registry, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["versions", "--data-dir", str(tmp_path), "show", "p1-v9"])
    assert result.exit_code != 0
    assert "There is no model version 'p1-v9'" in result.output
    assert "Traceback" not in result.output


def test_an_operator_decides_on_what_is_quarantined(registry: Registry, tmp_path: Path) -> None:
    waiting = run(tmp_path, "quarantine")
    assert "p1-v1: 2 corrected images, waits for a decision" in waiting
    assert "`captioner quarantine release p1-v1` lets the next retrain learn them" in waiting
    assert "next retrain" in run(tmp_path, "quarantine", "release", "p1-v1")
    assert registry.get("p1-v1").state == "released"
    released = run(tmp_path, "quarantine", "--project", "1")
    assert "2 corrected images, released" in released
    assert "quarantine release" not in released
    assert "never" in run(tmp_path, "quarantine", "drop", "p1-v1")
    assert registry.get("p1-v1").state == "dropped"
    result = CliRunner().invoke(main, ["quarantine", "--data-dir", str(tmp_path), "drop", "starter"])
    assert "was not rejected" in result.output
    assert result.exit_code != 0


def test_options_stand_before_or_after_the_name_of_a_subcommand(registry: Registry, tmp_path: Path) -> None:
    runner, here = CliRunner(), ["--data-dir", str(tmp_path)]
    wrong = ["--data-dir", str(tmp_path / "other")]
    shown = runner.invoke(main, ["versions", *here, "show", "p1-v1"]).output
    assert runner.invoke(main, ["versions", *wrong, "show", "p1-v1", *here]).output == shown
    assert runner.invoke(main, ["quarantine", "release", *here, "p1-v1"]).exit_code == 0
    assert "p1-v1: 2 corrected images, released" in run(tmp_path, "quarantine")
    assert runner.invoke(main, ["quarantine", "drop", "p1-v1", *here]).exit_code == 0
    assert "p1-v1: 2 corrected images, dropped" in run(tmp_path, "quarantine")
