"""Three hundred things people do in Label Studio, of every kind, in an order drawn by a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import labeling_config
from backend.label_studio import wire
from demo.browser import Browser

CONFIG = labeling_config.shipped("caption")
TAGS = labeling_config.parse(CONFIG)
SUBJECTS, VERBS = ("a dog", "two men", "a red boat", "the old house"), ("runs", "stands in the rain", "is on fire")
COUNTS = {
    "create": 95,
    "update": 55,
    "skip": 30,
    "unskip": 20,
    "empty": 8,
    "mark_as_ground_truth": 8,
    "delete": 25,
    "convert_to_draft": 4,
    "annotate_from_predictions": 12,
    "propagate": 8,
    "import_with_annotations": 12,
    "delete_tasks": 12,
    "delete_annotations_of_tasks": 6,
    "remove_duplicates": 2,
    "change_images": 3,
}
IN_BULK = {
    "annotate_from_predictions",
    "propagate",
    "import_with_annotations",
    "delete_tasks",
    "delete_annotations_of_tasks",
    "remove_duplicates",
    "change_images",
}
"""What is known of tasks and annotations is read anew after these: they change more than one annotation."""


class Annotators:
    """Works on a project of its own. `done` counts by kind."""

    def __init__(self, client: Browser, seed: int) -> None:
        self.client = client
        self.done: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._number = 0
        self._seen: list[Any] = []
        self.project = int(client.create_project(f"Annotators {seed}", CONFIG)["id"])

    def work(self) -> Iterator[int]:
        """Do it all; yields the number of each operation that is done."""
        self._import(40)
        kinds = [kind for kind, count in COUNTS.items() for _ in range(count)]
        self._chance.shuffle(kinds)
        kinds.sort(key=lambda kind: kind != "create" and self._chance.random() < 0.2)  # some captions to begin with
        for number, kind in enumerate(kinds):
            operation: Callable[[], object] = getattr(self, f"_{kind}")
            operation()
            self.done[kind] += 1
            if kind in IN_BULK:
                self._seen = []
            yield number

    def _text(self) -> str:
        self._number += 1
        return f"{self._chance.choice(SUBJECTS)} {self._chance.choice(VERBS)}, number {self._number}"

    def _result(self, *texts: str) -> list[dict[str, Any]]:
        return [{"id": f"r{self._number}", **wire.result(TAGS, *texts, origin="manual")}]

    def _task(self) -> int:
        return int(self._chance.choice(self._tasks())["id"])

    def _tasks(self) -> list[Any]:
        self._seen = self._seen or self.client.export(self.project)
        if len(self._seen) < 20:
            self._import(20)
            self._seen = self.client.export(self.project)
        return self._seen

    def _annotation(self, *, skipped: bool = False, last: bool = False) -> dict[str, Any]:
        """One of them; after the `last` time it is not chosen again, because it is not what it was."""
        tasks = self._tasks()
        found = [(task, a) for task in tasks for a in task["annotations"] if a["was_cancelled"] == skipped]
        if not found:
            self._skip() if skipped else self._create()
            self._seen = []
            return self._annotation(skipped=skipped, last=last)
        task, annotation = self._chance.choice(found)
        if last:
            task["annotations"].remove(annotation)
        return dict(annotation)

    def _import(self, count: int, annotated: bool = False) -> None:
        tasks = []
        for _ in range(count):
            text = self._text()
            task: dict[str, Any] = {"data": {"image": f"http://images.example/{self._number}.jpg"}}
            if annotated:
                task["annotations"] = [{"result": self._result(text)} for _ in range(self._chance.randint(1, 2))]
            else:
                task["predictions"] = [{"model_version": "v1", "score": 0.5, "result": [wire.result(TAGS, text)]}]
            tasks.append(task)
        self.client.import_tasks(self.project, tasks)

    def _act(self, action: str, task_ids: list[int], **body: Any) -> None:
        selected = {"all": False, "included": task_ids}
        payload = {"selectedItems": selected, "project": str(self.project), **body}
        self.client.post("/api/dm/actions", payload, id=action, project=self.project)

    def _some_tasks(self, count: int) -> list[int]:
        return [int(task["id"]) for task in self._chance.sample(self._tasks(), count)]

    def _create(self) -> None:
        seconds = round(self._chance.uniform(1, 90), 3)
        self.client.create_annotation(self._task(), self.project, self._result(self._text()), lead_time=seconds)

    def _update(self) -> None:
        id_ = self._annotation()["id"]
        self.client.update_annotation(id_, self.project, result=self._result(self._text()), was_cancelled=False)

    def _skip(self) -> None:
        self.client.create_annotation(self._task(), self.project, [], was_cancelled=True)

    def _unskip(self) -> None:
        id_ = self._annotation(skipped=True, last=True)["id"]
        self.client.update_annotation(id_, self.project, result=self._result(self._text()), was_cancelled=False)

    def _empty(self) -> None:
        self.client.create_annotation(self._task(), self.project, [])

    def _mark_as_ground_truth(self) -> None:
        self.client.update_annotation(self._annotation()["id"], self.project, ground_truth=True)

    def _delete(self) -> None:
        self.client.delete(f"/api/annotations/{self._annotation(last=True)['id']}")

    def _convert_to_draft(self) -> None:
        self.client.post(f"/api/annotations/{self._annotation(last=True)['id']}/convert-to-draft", {})

    def _annotate_from_predictions(self) -> None:
        self._act("predictions_to_annotations", self._some_tasks(4), model_version="v1")

    def _propagate(self) -> None:
        self._act("propagate_annotations", self._some_tasks(3), source_annotation_id=self._annotation()["id"])

    def _import_with_annotations(self) -> None:
        self._import(3, annotated=True)

    def _delete_tasks(self) -> None:
        self._act("delete_tasks", self._some_tasks(2))

    def _delete_annotations_of_tasks(self) -> None:
        self._act("delete_tasks_annotations", self._some_tasks(2))

    def _remove_duplicates(self) -> None:
        """Two tasks of one image, the second with the caption: it moves to the first, and the second goes."""
        image = {"image": f"http://images.example/twice-{self._number}.jpg"}
        first, second = self.client.import_tasks(self.project, [{"data": image}, {"data": image}])
        for task_id in (first, second):
            self.client.create_annotation(task_id, self.project, self._result(self._text()))
        self._act("remove_duplicates", [first, second])

    def _change_images(self) -> None:
        new = f"http://images.example/moved-{self._number}.jpg"
        self._act("add_data_field", self._some_tasks(2), value_name="image", value_type="String", value=new)
