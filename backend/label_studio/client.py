"""The part of Label Studio's API that this project uses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from backend.domain.errors import LabelStudioError, LabelStudioRefusalError
from backend.label_studio.api import JSON, Api
from backend.label_studio.pages import AskAfter, Page, by_id, pages

SUMMARIES, FULL_TASKS = 1000, 100  # tasks in a page, without and with their annotations
IMPORT_FLAG = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"
UPLOAD_FILES = 50  # in a request
UPLOAD_BYTES = 50_000_000  # in a request, which is kept in memory; Label Studio allows 100 files and 250 MB


class LabelStudio(Api):
    """Projects, tasks, annotations, predictions, ML backends and webhooks of one Label Studio.

    Every method raises the errors of Api.
    """

    # Projects and tasks

    def project(self, project_id: int) -> dict[str, Any]:
        try:
            found = self._object(self.get(f"/api/projects/{project_id}"), "project")
            return found if isinstance(found.get("label_config") or "", str) else self._unexpected("project")
        except LabelStudioRefusalError as error:
            if error.status != 404:
                raise
            raise LabelStudioRefusalError(
                f"Label Studio at {self.url} has no project {project_id}, or the user of this token may not see it; "
                f"the number is in the address of the project (/projects/<number>).",
                error.status,
                error.detail,
            ) from error

    def projects(self) -> list[dict[str, Any]]:
        return list(self._pages("/api/projects", "results", page_size=100))

    def create_project(self, title: str, label_config: str, **fields: Any) -> dict[str, Any]:
        return self._object(
            self.post("/api/projects", {"title": title, "label_config": label_config, **fields}), "project"
        )

    def update_project(self, project_id: int, **fields: Any) -> dict[str, Any]:
        return self._object(self.patch(f"/api/projects/{project_id}", fields), "project")

    def upload_images(self, project_id: int, paths: Sequence[Path]) -> list[int]:
        """Upload image files, one task each, in order; returns the ids of the new tasks."""
        task_ids: list[int] = []
        for batch in _batches(paths):
            with ExitStack() as opened:
                files = [
                    (f"file{n}", (upload_name(path), opened.enter_context(path.open("rb"))))
                    for n, path in enumerate(batch)
                ]
                answer = self._call(
                    "POST", f"/api/projects/{project_id}/import", files=files, params={"return_task_ids": "true"}
                )
            task_ids += self._list(self._object(answer, "import").get("task_ids"), "list of new tasks")
        return task_ids

    def tasks(self, project_id: int, page_size: int = 100) -> Iterator[dict[str, Any]]:
        """Every task of the project as the Data Manager lists it (with `fields=all`: annotations and predictions)."""
        return self._pages("/api/tasks", "tasks", page_size=page_size, project=project_id, fields="all")

    def task_summaries(
        self, project_id: int, unreadable: set[int], since: datetime | None = None
    ) -> Iterator[list[Any]]:
        """Pages of all tasks in order of id, without annotations. Tasks that are deleted meanwhile cause no gaps.

        With `since` only those that changed since then by Label Studio's clock. A task that changes meanwhile may be
        missing; the next call returns it. Some bulk actions of Label Studio do not change a task's time. Ids of tasks
        that cannot be served are added to `unreadable`.
        """
        items = []
        if since is not None:
            moment = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            items.append(_item("updated_at", "greater_or_equal", "Datetime", moment))
        for tasks, _ in pages(self._after(project_id, items), -1, SUMMARIES, unreadable):
            if tasks:
                yield tasks

    def full_tasks(self, project_id: int, task_ids: Sequence[int], unreadable: set[int]) -> list[Any]:
        """These tasks with their annotations, in any order; at most `FULL_TASKS` of them at once.

        Ids of tasks that cannot be served are added to `unreadable`.
        """

        def ask(ids: Sequence[int]) -> list[Any]:
            chosen = {"selectedItems": {"all": False, "included": list(ids)}}
            return self._tasks(project_id, FULL_TASKS, chosen, "tasks:id", fields="all")

        return by_id(ask, task_ids, unreadable) if task_ids else []

    def unlabelled(
        self,
        project_id: int,
        after_task: int,
        size: int,
        unreadable: set[int],
        *,
        last: int | None = None,
        version: str | None = None,
        several: bool = False,
    ) -> tuple[list[Any], int]:
        """The next tasks by id, up to the `last`, that nobody has annotated or skipped, `size` at most, with their
        predictions; and how many there are in all.

        With `version` only those with a prediction of a version that contains this name, with `several` only those with
        more than one prediction. Ids of tasks that cannot be served are added to `unreadable`.
        """
        items = list(_UNLABELLED)
        items += [] if last is None else [_item("id", "less_or_equal", "Number", last)]
        items += [_item("predictions_model_versions", "contains", "List", [version])] if version else []
        items += [_item("total_predictions", "greater", "Number", 1)] if several else []
        found = next(pages(self._after(project_id, items, fields="all"), after_task, size, unreadable))
        for task in found[0]:
            self._records(task.get("predictions") or [], "list of predictions")
        return found

    def tasks_being_edited(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        """Which of at most `FULL_TASKS` tasks are being edited: their annotation is begun and not submitted."""
        if not task_ids:
            return set()
        begun = _all_of(_item("draft_exists", "equal", "Boolean", True))
        chosen = {**begun, "selectedItems": {"all": False, "included": list(task_ids)}}
        return {task["id"] for task in self._tasks(project_id, FULL_TASKS, chosen, "tasks:id")}

    def _after(self, project_id: int, items: Sequence[dict[str, Any]], **params: Any) -> AskAfter:
        """Asks for pages of the tasks that all these filters choose."""

        def ask(after: int, last: int | None, size: int) -> Page:
            limits = [_item("id", "greater", "Number", after)]
            limits += [] if last is None else [_item("id", "less_or_equal", "Number", last)]
            page = self._page(project_id, size, _all_of(*items, *limits), "tasks:id", **params)
            return self._records(page.get("tasks"), "list of tasks"), self._number(page.get("total"), "number of tasks")

        return ask

    def _tasks(self, project_id: int, size: int, chosen: Mapping[str, Any], order: str, **params: Any) -> list[Any]:
        return self._records(self._page(project_id, size, chosen, order, **params).get("tasks"), "list of tasks")

    def _page(self, project_id: int, size: int, chosen: Mapping[str, Any], order: str, **params: Any) -> dict[str, Any]:
        query = json.dumps({"ordering": [order], **chosen})
        # With `review`, Label Studio does not ask the ML backend for missing predictions.
        fixed = {"project": project_id, "page_size": size, "review": "true", "resolve_uri": "false"}
        return self._object(self.get("/api/tasks", query=query, **{"page": 1, **fixed, **params}), "page")

    # Annotations and predictions

    def import_predictions(self, project_id: int, predictions: Sequence[Mapping[str, Any]]) -> int:
        """Store predictions `{"task": …, "result": […], "score": …, "model_version": …}`; returns how many were stored.

        Label Studio silently drops those that do not fit the labelling config, and refuses all when a task of one is
        deleted. Each call makes it count the predictions of the whole project, unless `counts_little`.
        """
        if not predictions:
            return 0
        answer = self.post(f"/api/projects/{project_id}/import/predictions", list(predictions))
        return self._number(self._object(answer, "import").get("created"), "number of predictions")

    def counts_little(self, project_id: int) -> bool:
        """Whether Label Studio counts only predictions of the same tasks after an import, as its feature flag
        `IMPORT_FLAG` says. It tells the two ways by how it refuses a task that does not exist."""
        try:
            self.post(f"/api/projects/{project_id}/import/predictions", [{"task": 0}])
        except LabelStudioRefusalError as error:
            return "task ID 0 not found in project" in error.detail
        return False

    def add_prediction(self, prediction: Mapping[str, Any]) -> None:
        """Store one prediction. Label Studio takes about a tenth of a second."""
        self.post("/api/predictions", prediction)

    def update_prediction(self, prediction_id: int, **fields: Any) -> dict[str, Any]:
        return self._object(self.patch(f"/api/predictions/{prediction_id}", fields), "prediction")

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete a prediction; it is no error if it does not exist."""
        try:
            self.delete(f"/api/predictions/{prediction_id}")
        except LabelStudioRefusalError as error:
            if error.status != 404:
                raise

    def model_versions(self, project_id: int) -> dict[str, int]:
        """The number of predictions of each version in the project."""
        found = self._object(self.get(f"/api/projects/{project_id}/model-versions"), "list of versions")
        return {name: self._number(count, "number of predictions") for name, count in found.items()}

    # ML backends and webhooks

    def ml_backends(self, project_id: int) -> list[Any]:
        return self._records(self.get("/api/ml", project=project_id), "list of ML backends")

    def create_ml_backend(self, project_id: int, url: str, **fields: Any) -> dict[str, Any]:
        return self._object(self.post("/api/ml", {"project": project_id, "url": url, **fields}), "ML backend")

    def update_ml_backend(self, backend_id: int, project_id: int, url: str, **fields: Any) -> dict[str, Any]:
        """Update a record. Project and address are required, because Label Studio answers 500 without them."""
        return self._object(
            self.patch(f"/api/ml/{backend_id}", {"project": project_id, "url": url, **fields}), "ML backend"
        )

    def webhooks(self, project_id: int) -> list[Any]:
        return self._records(self.get("/api/webhooks", project=project_id), "list of webhooks")

    def create_webhook(self, project_id: int, url: str, **fields: Any) -> dict[str, Any]:
        return self._object(self.post("/api/webhooks", {"project": project_id, "url": url, **fields}), "webhook")

    def update_webhook(self, webhook_id: int, **fields: Any) -> dict[str, Any]:
        return self._object(self.patch(f"/api/webhooks/{webhook_id}", fields), "webhook")

    def legacy_tokens_enabled(self) -> bool | None:
        """Whether the organisation accepts legacy tokens such as the one sent with /setup; None if unknown."""
        try:
            enabled = self._object(self.get("/api/jwt/settings"), "settings").get("legacy_api_tokens_enabled")
        except LabelStudioRefusalError:  # only administrators may ask
            return None
        return enabled if isinstance(enabled, bool) else None

    def _pages(self, path: str, key: str, page_size: int, **params: Any) -> Iterator[dict[str, Any]]:
        seen: set[int] = set()
        for page in count(1):
            answer = self._object(self.get(path, page=page, page_size=page_size, **params), "page")
            found = self._records(answer.get(key), f"list of {key}")
            yield from found
            new = {each["id"] for each in found} - seen
            seen |= new
            # "total" counts tasks, "count" projects; a page beyond the last is answered 404
            if not new or len(seen) >= self._number(answer.get("total", answer.get("count")), "number"):
                return

    def _object(self, answer: JSON, noun: str) -> dict[str, Any]:
        return answer if isinstance(answer, dict) else self._unexpected(noun)

    def _list(self, answer: JSON, noun: str) -> list[Any]:
        return answer if isinstance(answer, list) else self._unexpected(noun)

    def _records(self, answer: JSON, noun: str) -> list[Any]:
        """A list of objects with an id; what else they have is for who reads it."""
        found = self._list(answer, noun)
        whole = all(isinstance(each, dict) and type(each.get("id")) is int for each in found)
        return found if whole else self._unexpected(noun)

    def _number(self, answer: JSON, noun: str) -> int:
        return (answer or 0) if answer is None or type(answer) is int else self._unexpected(noun)

    def _unexpected(self, noun: str) -> Any:
        raise LabelStudioError(f"Label Studio at {self.url} answered something else than a {noun}; is it version 1.23?")


def upload_name(path: Path) -> str:
    """The name under which Label Studio stores a file: without what Django's `get_valid_filename` takes out of it.

    Bytes that are not UTF-8, quotes or line breaks in the name of an upload would end in errors or in other names.
    """
    name, stem = (re.sub(r"[^-\w.]", "", part.strip().replace(" ", "_")) for part in (path.name, path.stem))
    return name if stem else f"photo{name}"


def _item(field: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


def _all_of(*items: dict[str, Any]) -> dict[str, Any]:
    return {"filters": {"conjunction": "and", "items": list(items)}}


_UNLABELLED = [_item(field, "equal", "Number", 0) for field in ("total_annotations", "cancelled_annotations")]


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for path in paths:
        size += path.stat().st_size
        if batch and (len(batch) == UPLOAD_FILES or size > UPLOAD_BYTES):
            yield batch
            batch, size = [], path.stat().st_size
        batch.append(path)
    if batch:
        yield batch
