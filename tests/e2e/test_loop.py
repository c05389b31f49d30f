"""The loop in a real Label Studio, in the order a user meets it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.system.ports import is_healthy
from tests.e2e.conftest import RETRAIN_EVERY
from tests.e2e.stack import Captioning, Stack, await_true

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("loop")]

BLIND = 4  # of the scenes, by the hash of its image, at the default CAPTIONER_BLIND_SHARE


def submit(captioning: Captioning, task_id: int, text: str, **fields: Any) -> dict[str, Any]:
    """Submit a caption as the editor does; `origin` says how it came about."""
    result = {
        "id": f"e2e{task_id:07d}",
        "from_name": "caption",
        "to_name": "image",
        "type": "textarea",
        "value": {"text": [text]},
        "origin": fields.pop("origin", "manual"),
    }
    return captioning.client.create_annotation(task_id, captioning.project, [result], **fields)


def submit_by_keyboard(page: Any) -> None:
    """As the heading tells: while the cursor is in the box, Label Studio hears no Ctrl+Enter."""
    page.keyboard.press("Tab")
    page.keyboard.press("Control+Enter")


def task_ids(captioning: Captioning) -> list[int]:
    return sorted(task["id"] for task in captioning.client.tasks(captioning.project))


def versions_of(captioning: Captioning, task_id: int) -> set[str]:
    """Which have a draft of the task in Label Studio."""
    return {each["model_version"] for each in captioning.client.predictions(task_id=task_id)}


def corrections(captioning: Captioning) -> list[Any]:
    from backend.store.store import Store

    return Store(captioning.state["settings"]["DATABASE_URL"]).corrections(captioning.project)


def test_the_draft_stands_in_an_editable_box_and_its_correction_comes_back(
    stack: Stack, page: Any, screenshots: Path
) -> None:
    task_id = task_ids(stack)[0]
    stack.client.retrieve_predictions(stack.project, [task_id])
    draft = stack.client.predictions(task_id=task_id)[0]["result"][0]["value"]["text"][0]
    page.goto(f"{stack.state['label_studio_url']}/projects/{stack.project}/data?task={task_id}")
    box = page.locator("textarea", has_text=draft).first
    box.wait_for(timeout=60_000)
    assert box.is_editable()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=str(screenshots / "draft.png"))
    assert (screenshots / "draft.png").stat().st_size > 10_000
    box.fill(f"{draft} Corrected by hand.")
    submit_by_keyboard(page)
    row = await_true(lambda: next(iter(corrections(stack)), None), 30, "the correction")
    assert row.texts == (f"{draft} Corrected by hand.",)
    assert row.origin == "prediction-changed"
    assert row.draft_text == draft
    assert row.draft_version == "starter-v1"
    assert row.image
    assert row.lead_time_seconds > 0


def test_a_blind_task_opens_an_empty_box_and_counts_as_drafted(stack: Stack, page: Any, screenshots: Path) -> None:
    task_id = task_ids(stack)[BLIND]
    stack.client.retrieve_predictions(stack.project, [task_id])
    (prediction,) = stack.client.predictions(task_id=task_id)
    assert prediction["result"] == []
    assert prediction["model_version"] == "starter-v1"
    assert prediction["score"] is not None  # or uncertainty sampling would serve it last
    stack.client.retrieve_predictions(stack.project, [task_id])
    assert len(stack.client.predictions(task_id=task_id)) == 1
    page.goto(f"{stack.state['label_studio_url']}/projects/{stack.project}/data?task={task_id}")
    box = page.locator("textarea[name=caption], .lsf-text-area textarea, textarea").first
    box.wait_for(timeout=60_000)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=str(screenshots / "blind.png"))
    assert [each.input_value() for each in page.locator("textarea").all() if each.input_value()] == []
    assert page.get_by_text("write one into an empty box").first.is_visible()
    box.fill("Said without a draft.")
    submit_by_keyboard(page)
    row = await_true(lambda: {r.task_id: r for r in corrections(stack)}.get(task_id), 30, "the correction")
    assert row.texts == ("Said without a draft.",)
    assert row.origin == "manual"
    assert not row.draft_text


def test_every_kind_of_event_reaches_the_store(stack: Stack) -> None:
    first, second, third, *_ = task_ids(stack)[1:]
    before = stack.project_status()
    skipped = stack.client.create_annotation(first, stack.project, [], was_cancelled=True)
    kept = submit(stack, second, "A caption that is changed later.")
    gone = submit(stack, third, "A caption that is deleted later.")
    stack.client.update_annotation(kept["id"], stack.project, result=_renamed(kept, "A changed caption."))
    stack.client.delete(f"/api/annotations/{gone['id']}")
    after = stack.project_status()
    assert after["skipped"] - before["skipped"] == 1
    assert after["corrections"] - before["corrections"] == 1
    by_id = {row.annotation_id: row for row in corrections(stack)}
    assert by_id[kept["id"]].texts == ("A changed caption.",)
    assert skipped["id"] not in by_id
    assert gone["id"] not in by_id


def test_after_n_corrections_a_new_version_is_trained_judged_and_served(captioning: Captioning) -> None:
    client, project, tasks = captioning.client, captioning.project, task_ids(captioning)
    version = captioning.project_status()["serving"]
    first, waiting, unseen = tasks[5], tasks[12], tasks[-1]
    client.retrieve_predictions(project, [first, waiting])
    [draft] = client.predictions(task_id=first)
    text = draft["result"][0]["value"]["text"][0]
    submit(captioning, first, f"{text} Corrected.", origin="prediction-changed", parent_prediction=draft["id"])
    row = await_true(lambda: {r.task_id: r for r in corrections(captioning)}.get(first), 30, "the correction")
    assert (row.draft_text, row.draft_version) == (text, version)
    for task_id in {*tasks[4 : 4 + RETRAIN_EVERY]} - {first}:
        submit(captioning, task_id, "A small red circle sits above a large blue square.")
    ended = await_true(lambda: ended_retrains(captioning), 240, "the retrain")
    assert ended[0]["state"] == "done", ended[0]["outcome"]
    found = {each["name"]: each for each in captioning.status()["versions"]}[f"p{project}-v1"]
    assert found["parent"] == version
    assert found["verdict"]["decision"] in {"promote", "hold", "reject"}
    if found["verdict"]["decision"] != "promote":
        captioning.captioner("promote", found["name"])
    await_true(lambda: captioning.project_status()["serving"] == found["name"], 120, "the new version")
    log = (captioning.data_dir / "logs" / "backend.log").read_text()
    assert f"{found['name']} serves project {project}." in log, "the web process tells what it does"
    client.retrieve_predictions(project, [unseen])
    assert found["name"] in versions_of(captioning, unseen)
    await_true(lambda: found["name"] in versions_of(captioning, waiting), 240, "the draft of a task that waits")
    assert found["name"] in captioning.captioner("status")


def test_start_training_in_label_studio_starts_a_retrain(stack: Stack) -> None:
    before = len(ended_retrains(stack))
    submit(stack, task_ids(stack)[-2], "Three green triangles.")
    stack.client.start_training(stack.client.ml_backends(stack.project)[0]["id"])
    assert await_true(lambda: len(ended_retrains(stack)) > before, 240, "the retrain")
    assert ended_retrains(stack)[0]["state"] == "done"


@pytest.mark.parametrize("word", ["backend.cli serve", "backend.cli worker", "redis-server"])
def test_a_killed_process_is_started_again_and_nothing_is_lost(stack: Stack, word: str) -> None:
    known = {row.annotation_id for row in corrections(stack)}
    old = stack.children(word)
    stack.kill(word)
    await_true(lambda: stack.children(word) and set(stack.children(word)) != set(old), 30, f"a new {word}")
    await_true(lambda: stack.status()["backend"]["up"], 60, "the ML backend")
    await_true(lambda: stack.status()["queue"] == "Redis answers", 60, "Redis")
    assert {row.annotation_id for row in corrections(stack)} == known
    champion = stack.project_status()["champion"]  # it is loaded while /health answers already
    await_true(lambda: stack.project_status()["serving"] == champion, 60, "the champion")


def test_a_killed_label_studio_is_started_again_with_all_that_was_submitted(stack: Stack) -> None:
    task_id = task_ids(stack)[-5]
    submitted = submit(stack, task_id, "Submitted just before the end.")
    old = stack.children("label-studio start")
    stack.kill("label-studio start")
    await_true(lambda: set(stack.children("label-studio start")) - set(old), 30, "a new Label Studio")
    await_true(lambda: is_healthy(stack.state["label_studio_url"]), 120, "Label Studio")
    assert len(task_ids(stack)) == 24
    stack.captioner("reconcile", "--project", str(stack.project))
    assert submitted["id"] in {row.annotation_id for row in corrections(stack)}


def test_a_retrain_whose_worker_is_killed_is_run_again(stack: Stack) -> None:
    before = len(ended_retrains(stack))
    submit(stack, task_ids(stack)[-3], "One yellow square.")
    stack.client.start_training(stack.client.ml_backends(stack.project)[0]["id"])
    await_true(lambda: active(stack) and active(stack)["state"] == "running", 60, "the retrain to run")
    for pid in reversed(stack.children("backend.cli worker")):
        os.kill(pid, signal.SIGKILL)
    await_true(lambda: len(ended_retrains(stack)) > before, 300, "the second attempt")
    assert ended_retrains(stack)[0]["state"] == "done"
    assert ended_retrains(stack)[0]["attempt"] == 2


def test_a_second_up_says_that_one_runs_already(stack: Stack) -> None:
    argv = [sys.executable, "-P", "-m", "backend.cli", "up", "--data-dir", str(stack.data_dir)]
    again = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 0
    assert "Already running" in again.stdout
    assert stack.state["label_studio_url"] in again.stdout


def test_ctrl_c_stops_everything_and_a_second_up_goes_on(stack: Stack) -> None:
    champion = stack.project_status()["champion"]
    known = {row.annotation_id for row in corrections(stack)}
    pids = stack.children("")
    stack.stop()
    await_true(lambda: not [pid for pid in pids if alive(pid)], 20, "every process to end")
    seconds = stack.start()
    assert seconds < 60
    assert stack.project_status()["champion"] == champion
    await_true(lambda: stack.project_status()["serving"] == champion, 60, "the champion")
    assert {row.annotation_id for row in corrections(stack)} == known
    assert len(task_ids(stack)) == 24  # nothing was imported twice


def test_a_killed_up_leaves_nothing_behind_and_the_next_goes_on(stack: Stack) -> None:
    champion = stack.project_status()["champion"]
    task_id = task_ids(stack)[-4]
    submit(stack, task_id, "Acknowledged just before the end.")
    known = {row.annotation_id for row in corrections(stack)}
    pids = stack.children("")
    stack.kill_up()
    await_true(lambda: not [pid for pid in pids if alive(pid)], 30, "every process to end")
    assert stack.start() < 60
    assert {row.annotation_id for row in corrections(stack)} == known
    await_true(lambda: stack.project_status()["serving"] == champion, 60, "the champion")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def ended_retrains(captioning: Captioning) -> list[dict[str, Any]]:
    return [each for each in captioning.project_status()["retrains"] if each["state"] in {"done", "failed"}]


def active(stack: Stack) -> dict[str, Any]:
    return next((e for e in stack.project_status()["retrains"] if e["state"] in {"queued", "running"}), {})


def _renamed(annotation: dict[str, Any], text: str) -> list[dict[str, Any]]:
    return [{**item, "value": {"text": [text]}, "origin": "manual"} for item in annotation["result"]]
