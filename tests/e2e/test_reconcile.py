"""Nothing is lost: whatever dies or happens to webhooks, one comparison makes the store equal Label Studio's export."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import requests

import labeling_config
from demo.browser import Browser
from tests.e2e.annotators import COUNTS, Annotators
from tests.e2e.bare import Bare
from tests.e2e.stack import await_true
from tests.e2e.studio import Studio
from tests.e2e.unreliable import Unreliable

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("label-studio")]

KILLS = ("backend", "worker", "redis") * 3
NOTHING = "nothing had been missed"


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, label_studio: Studio) -> Iterator[Bare]:
    """It neither trains nor compares by itself, so that what is tested is all that repairs."""
    never = {"CAPTIONER_RETRAIN_EVERY": "0", "CAPTIONER_RECONCILE_SECONDS": "1000000"}
    made = Bare(tmp_path_factory.mktemp("reconcile"), label_studio, **never)
    with made:
        yield made


def test_processes_killed_at_any_moment_lose_nothing(loop: Bare) -> None:
    annotators = Annotators(loop.client, seed=1)
    loop.captioner("connect", "--no-starter", "--project", str(annotators.project))
    chance = random.Random(4)
    moments = sorted(chance.sample(range(5, 295), len(KILLS)))
    kills = dict(zip(moments, chance.sample(KILLS, len(KILLS)), strict=True))
    killed = [name for number in annotators.work() if (name := kills.get(number)) and loop.kill(name)]
    assert annotators.done == COUNTS
    assert set(killed) == set(KILLS)
    await_true(loop.is_up, 120, "the ML backend")

    said = loop.captioner("reconcile", "--project", str(annotators.project))
    print(killed, said)
    assert_equal(loop, annotators.project)
    assert NOTHING not in said, "no webhook was lost, so nothing has been tested"
    assert NOTHING in loop.captioner("reconcile", "--project", str(annotators.project))
    compared = loop.project_status(annotators.project)["compared"]
    assert 0 <= compared["lag_seconds"] < 120
    assert compared["repaired"] > 0


def test_webhooks_lost_late_twice_and_out_of_order_lose_nothing(loop: Bare) -> None:
    annotators = Annotators(loop.client, seed=2)
    loop.captioner("connect", "--no-starter", "--project", str(annotators.project))
    [hook] = loop.client.webhooks(annotators.project)
    with Unreliable(hook["url"], seed=5) as proxy:
        loop.client.update_webhook(hook["id"], url=proxy.url)
        assert sum(1 for _ in annotators.work()) == 300
        proxy.settle()
        assert min(proxy.fates[fate] for fate in ("passed", "lost", "repeated", "delayed")) > 20
    said = loop.captioner("reconcile", "--project", str(annotators.project))
    print(proxy.fates, said)
    assert_equal(loop, annotators.project)
    assert "deleted annotations" in said
    assert NOTHING in loop.captioner("reconcile", "--project", str(annotators.project))


def test_a_task_that_label_studio_cannot_serve_hides_no_other(loop: Bare, label_studio: Studio) -> None:
    project = int(loop.client.create_project("damaged", labeling_config.shipped("caption"))["id"])
    data = [{"data": {"image": f"http://images.example/{number}.jpg"}} for number in range(5)]
    tasks = loop.client.import_tasks(project, data)
    value = r'{"from_name":"caption","to_name":"image","type":"textarea","value":{"text":["a \ud83d b"]}}'
    address = f"{label_studio.url}/api/tasks/{tasks[2]}/annotations"
    headers = {"Authorization": f"Token {label_studio.token}", "Content-Type": "application/json"}
    answer = requests.post(address, data=f'{{"result":[{value}]}}', headers=headers, timeout=60)
    assert answer.status_code == 500, "Label Studio can serve it now"
    said = loop.captioner("reconcile", "--project", str(project))
    assert f"Task {tasks[2]} cannot be read from Label Studio" in said
    assert loop.store.fingerprints(project).keys() == set(tasks) - {tasks[2]}
    assert loop.project_status(project)["compared"]["unreadable"] == [tasks[2]]


def assert_equal(loop: Bare, project: int) -> None:
    """The store holds what Label Studio exports, field by field, and nothing else."""
    tasks, annotations = exported(loop.client, project)
    assert len(annotations) > 50
    assert {
        row.annotation_id: {
            "task": row.task_id,
            "texts": list(row.typed),
            "skipped": row.was_cancelled,
            "ground_truth": row.ground_truth,
            "annotator": row.annotator,
            "seconds": row.lead_time_seconds,
            "updated_at": row.updated_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        for row in loop.store.corrections(project, usable=False)
    } == annotations
    known = {id_: loop.store.get_task(project, id_) for id_ in loop.store.fingerprints(project)}
    assert {id_: task and task.image for id_, task in known.items()} == tasks
    usable = {id_ for id_, each in annotations.items() if each["texts"] and not each["skipped"]}
    assert {row.annotation_id for row in loop.store.corrections(project)} == usable


def exported(client: Browser, project: int) -> tuple[dict[int, str], dict[int, Any]]:
    """Images by task id and what is to be known of each annotation, by Label Studio's own export."""
    tasks = client.export(project)
    return {task["id"]: task["data"]["image"] for task in tasks}, {
        each["id"]: {
            "task": task["id"],
            "texts": [text for item in each["result"] for text in item["value"]["text"]],
            "skipped": each["was_cancelled"],
            "ground_truth": each["ground_truth"],
            "annotator": each["completed_by"],
            "seconds": each["lead_time"],
            "updated_at": each["updated_at"],
        }
        for task in tasks
        for each in task["annotations"]
    }
