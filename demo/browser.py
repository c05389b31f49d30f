"""What a person does in Label Studio's pages, as calls of its API: for the simulated annotator and the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.domain.errors import LabelStudioRefusalError
from backend.label_studio.client import LabelStudio


class Browser(LabelStudio):
    """Label Studio with the calls of a person's browser: open tasks, annotate, ask for predictions and training."""

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Import tasks `{"data": {…}, "annotations": […], "predictions": […]}`; returns their ids."""
        answer = self.post(f"/api/projects/{project_id}/import", list(tasks), return_task_ids="true")
        return list(self._object(answer, "import")["task_ids"])

    def open_task(self, task_id: int, project_id: int) -> dict[str, Any]:
        """The task as the Data Manager opens it: Label Studio asks the ML backend for a prediction if it has none."""
        return self._object(self.get(f"/api/tasks/{task_id}", project=project_id), "task")

    def next_task(self, project_id: int) -> dict[str, Any] | None:
        """The next task of the label stream with a draft of the ML backend; None when none is left."""
        try:
            return self._object(self.get(f"/api/projects/{project_id}/next"), "task")
        except LabelStudioRefusalError as error:
            if error.status == 404:
                return None
            raise

    def export(self, project_id: int) -> list[Any]:
        """The JSON export: every task with its annotations, including tasks without any."""
        return self._list(
            self.get(f"/api/projects/{project_id}/export", exportType="JSON", download_all_tasks="true"), "export"
        )

    def create_annotation(
        self, task_id: int, project_id: int, result: Sequence[Mapping[str, Any]], **fields: Any
    ) -> dict[str, Any]:
        """Submit an annotation; fields such as `was_cancelled`, `parent_prediction`, `lead_time`."""
        body = {"result": list(result), **fields}
        return self._object(self.post(f"/api/tasks/{task_id}/annotations", body, project=project_id), "annotation")

    def update_annotation(self, annotation_id: int, project_id: int, **fields: Any) -> dict[str, Any]:
        return self._object(self.patch(f"/api/annotations/{annotation_id}", fields, project=project_id), "annotation")

    def predictions(self, project_id: int | None = None, task_id: int | None = None) -> list[Any]:
        chosen = {"project": project_id, "task": task_id}
        return self._list(
            self.get("/api/predictions", **{key: value for key, value in chosen.items() if value is not None}),
            "predictions",
        )

    def retrieve_predictions(self, project_id: int, task_ids: Sequence[int] | None = None) -> dict[str, Any]:
        """The action "Batch predictions" on these tasks (None: all): a /predict for those without the version."""
        if task_ids is None:
            selected: dict[str, Any] = {"all": True, "excluded": []}
        else:
            selected = {"all": False, "included": list(task_ids)}
        body = {"selectedItems": selected, "project": str(project_id)}
        return self._object(
            self.post("/api/dm/actions", body, id="retrieve_tasks_predictions", project=project_id), "action"
        )

    def start_training(self, backend_id: int) -> None:
        self.post(f"/api/ml/{backend_id}/train", {})
