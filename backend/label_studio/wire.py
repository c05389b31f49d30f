"""Decodes and encodes the JSON of Label Studio 1.23.2, of which tests/assets has recordings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import labeling_config
from backend.domain.corrections import Correction, Draft, Event, Task, normalise
from backend.domain.errors import RequestError
from backend.domain.selections import version_of
from backend.label_studio.captions import LONGEST_HINT, LONGEST_NAME, captions, hints, reasons
from backend.label_studio.payload import (
    GREATEST_ID,
    SECRETS,
    both,
    clean,
    flag_at,
    id_of,
    object_of,
    optional_text_at,
    reference,
    seconds,
    text_at,
    time_of,
)
from labeling_config import LabelingConfigError, Tags


@dataclass(frozen=True)
class PredictRequest:
    """POST /predict: the tasks to draft, in the order that the results must have. With a `hint`, which somebody has
    just typed, captions are to be completed from it."""

    project_id: int
    tasks: tuple[Task, ...]
    tags: Tags
    hint: str = ""


@dataclass(frozen=True)
class SetupRequest:
    """POST /setup. `hostname` is Label Studio's address by its settings; `access_token` is a legacy token."""

    project_id: int
    label_config: str
    hostname: str | None
    access_token: str | None


def predict_request(payload: Any) -> PredictRequest:
    """Decode the body of POST /predict. Raises RequestError when it or its labelling config is malformed."""
    body = object_of(clean(payload), "The request")
    tags = _tags(text_at(body, "label_config", "The request"))
    project_id, tasks = _project_id(body.get("project")), body.get("tasks")
    if not isinstance(tasks, list):
        raise RequestError('The request has no list "tasks".')
    return PredictRequest(project_id, _tasks(tasks, project_id, tags), tags, _hint(body.get("params"), tags))


def setup_request(payload: Any) -> SetupRequest:
    """Decode the body of POST /setup without parsing its labelling config. Raises RequestError when malformed."""
    body = object_of(clean(payload), "The request")
    return SetupRequest(
        project_id=_project_id(body.get("project")),
        label_config=text_at(body, "schema", "The request"),
        hostname=optional_text_at(body, "hostname"),
        access_token=optional_text_at(body, "access_token"),
    )


def event(payload: Any, label_config_of: Callable[[int], str | None] = lambda project_id: None) -> Event:
    """Decode any webhook call, including START_TRAINING. Other actions become an event without effects, and so do
    annotations of a project without a caption box.

    `label_config_of` returns the labelling config of a project that the call names only by number. Raises RequestError
    when the call names no action or project, or when an entry has no id or time.
    """
    body = object_of(clean(payload, without=SECRETS), "The webhook call")
    action = text_at(body, "action", "The webhook call")[:LONGEST_NAME]
    annotations = both(body, "annotation")
    tasks = both(body, "task")
    project_id = _project_id(body.get("project") or next((a.get("project") for a in annotations + tasks), None))
    kind, _, verb = action.rpartition("_")
    deleted = verb == "DELETED"
    of_annotations, of_tasks = kind in {"ANNOTATION", "ANNOTATIONS"}, kind in {"TASK", "TASKS"}
    tags = _tags_of_project(body.get("project"), project_id, label_config_of)
    record = body if of_annotations or of_tasks else {}
    return Event(
        action=action,
        project_id=project_id,
        corrections=_corrections(annotations, project_id, tags) if of_annotations and not deleted and tags else (),
        tasks=_tasks(tasks, project_id, tags) if (of_annotations or of_tasks) and not deleted and tags else (),
        deleted_annotations=tuple(id_of(a, "an annotation") for a in annotations if of_annotations and deleted),
        deleted_tasks=tuple(id_of(task, "a task") for task in tasks if of_tasks and deleted),
        body={**record, "action": action, "project": project_id},  # the full project object is large
        shown=_shown(annotations, [each.get("prediction") for each in annotations]),  # it has that in stored mode only
    )


@dataclass(frozen=True)
class FullTasks:
    """Tasks with all annotations. `made` says by id how each was made: "created", "imported" or "in_bulk"; `shown` by
    which version its draft was, where Label Studio says so."""

    tasks: tuple[Task, ...]
    corrections: tuple[Correction, ...]
    made: dict[int, str]
    shown: dict[int, str]


def full_tasks(entries: Any, project_id: int, tags: Tags) -> FullTasks:
    """Decode tasks with annotations, of the API or the JSON export. Raises RequestError when they are malformed."""
    if not isinstance(entries, list):
        raise RequestError("The export is not a JSON list of tasks.")
    entries = [object_of(entry, "A task of the export") for entry in clean(entries)]
    annotations = [
        {"task": entry.get("id"), **object_of(annotation, "An annotation of the export")}
        for entry in entries
        for annotation in entry.get("annotations") or []
    ]
    made = {a["id"]: _made(a) for a in annotations if reference(a.get("id")) is not None}
    corrections = _corrections(annotations, project_id, tags)
    shown = _shown(annotations, [each for entry in entries for each in entry.get("predictions") or []])
    return FullTasks(_with_fingerprints(entries, project_id, tags), corrections, made, shown)


def readable(entries: Sequence[Any], unreadable: set[int]) -> list[Any]:
    """The tasks that are not nested too deep; the ids of the others are added to `unreadable`."""
    found = []
    for entry in entries:
        try:
            clean(entry)
            found.append(entry)
        except RequestError:
            unreadable.add(id_of(entry, "a task"))
    return found


def _made(annotation: Mapping[str, Any]) -> str:
    """Imported and bulk annotations have no last editor; bulk ones name the prediction or annotation they copy."""
    if annotation.get("updated_by", "unknown") is not None:
        return "created"
    copied = annotation.get("parent_prediction") or annotation.get("parent_annotation")
    return "in_bulk" if copied else "imported"


def _shown(annotations: Sequence[Mapping[str, Any]], predictions: Iterable[Any]) -> dict[int, str]:
    """By annotation the version whose draft it was made from, where that is one of these predictions."""
    known = {reference(each): each.get("model_version") for each in predictions if isinstance(each, dict)}
    known.pop(None, None)
    made = {reference(each.get("id")): known.get(reference(each.get("parent_prediction"))) for each in annotations}
    return {id_: version_of(name) for id_, name in made.items() if id_ is not None and isinstance(name, str)}


def task_summaries(entries: Any, project_id: int, tags: Tags) -> tuple[Task, ...]:
    """Decode tasks without annotations. Raises RequestError when they are malformed."""
    found = [object_of(entry, "A task of the list") for entry in clean(entries)]
    return _with_fingerprints(found, project_id, tags)


def _with_fingerprints(entries: Sequence[Mapping[str, Any]], project_id: int, tags: Tags) -> tuple[Task, ...]:
    tasks = zip(_tasks(entries, project_id, tags), entries, strict=True)
    return tuple(replace(task, seen=_fingerprint(entry, task.image)) for task, entry in tasks)


def _fingerprint(entry: Mapping[str, Any], image: str | None) -> str:
    """A hash that changes with nearly every change of a task or its annotations.

    Bulk actions that do not change the task's time change its number of annotations ("Propagate annotations") or its
    image ("Add or modify data field").
    """
    parts = [entry.get(name) for name in ("updated_at", "total_annotations", "cancelled_annotations")]
    return hashlib.sha256(json.dumps([*parts, image]).encode()).hexdigest()


def prediction(draft: Draft, tags: Tags) -> dict[str, Any]:
    """The draft as one item of the `results` of POST /predict, or as a prediction of POST /api/predictions.

    A copied correction says where it is from in its `meta`, which Label Studio keeps with the annotation made from it.
    """
    found = [result(tags, draft.text)] if draft.text else []  # a blind task gets a version without a caption
    if draft.from_task is not None:
        found = [{**each, "meta": {"text": [f"from task {draft.from_task}"]}} for each in found]
    return {"model_version": draft.version, "score": draft.score, "result": found}


def result(tags: Tags, *texts: str, origin: str | None = None) -> dict[str, Any]:
    """Captions as one entry of a `result` list: of a prediction, or with `origin` of an annotation."""
    entry: dict[str, Any] = {
        "from_name": tags.caption_tag,
        "to_name": tags.image_tag,
        "type": "textarea",
        "value": {"text": list(texts)},
    }
    return entry if origin is None else {**entry, "origin": origin}


def _hint(params: Any, tags: Tags) -> str:
    """What stands in the box for hints, in the context that the editor sends in interactive mode. Raises RequestError
    when it is too long."""
    if not isinstance(params, dict | None):
        raise RequestError('The "params" of the request are not a JSON object.')
    context = params.get("context") if params else None
    found = hints(context.get("result"), tags) if isinstance(context, dict) else ()
    if found and len(found[-1]) > LONGEST_HINT:
        raise RequestError(
            f"The hint has more than {LONGEST_HINT} characters: type how the caption begins, or a few of its words."
        )
    return found[-1] if found else ""


def _tasks(entries: Sequence[Any], project_id: int, tags: Tags) -> tuple[Task, ...]:
    tasks = []
    for entry in entries:
        task = object_of(entry, "A task")
        image = tags.image(task.get("data"))
        tasks.append(Task(id_of(task, "a task"), project_id, image, time_of(task.get("created_at"))))
    return tuple(tasks)


def _corrections(annotations: Sequence[Any], project_id: int, tags: Tags) -> tuple[Correction, ...]:
    return tuple(_correction(annotation, project_id, tags) for annotation in annotations)


def _correction(annotation: Mapping[str, Any], project_id: int, tags: Tags) -> Correction:
    annotation_id = id_of(annotation, "an annotation")
    task_id = reference(annotation.get("task"))
    if task_id is None:
        raise RequestError(f'Annotation {annotation_id} has no number "task".')
    updated_at = time_of(annotation.get("updated_at"))
    if updated_at is None:
        raise RequestError(f'Annotation {annotation_id} has no valid "updated_at" (an ISO 8601 time is needed).')
    typed, origin = captions(annotation.get("result"), tags)
    return Correction(
        annotation_id=annotation_id,
        project_id=project_id,
        task_id=task_id,
        texts=tuple(map(normalise, typed)),
        updated_at=updated_at,
        was_cancelled=flag_at(annotation, "was_cancelled", f"annotation {annotation_id}"),
        ground_truth=flag_at(annotation, "ground_truth", f"annotation {annotation_id}"),
        origin=origin,
        annotator=reference(annotation.get("completed_by")),
        lead_time_seconds=seconds(annotation.get("lead_time")),
        parent_prediction=reference(annotation.get("parent_prediction")),
        typed=typed,
        created_at=time_of(annotation.get("created_at")),
        reasons=reasons(annotation.get("result")),
        hints=tuple(hint[:LONGEST_HINT] for hint in hints(annotation.get("result"), tags)),
    )


def _tags(label_config: str) -> Tags:
    try:
        return labeling_config.parse(label_config)
    except LabelingConfigError as error:
        raise RequestError(str(error)) from error


def _tags_of_project(project: Any, project_id: int, label_config_of: Callable[[int], str | None]) -> Tags | None:
    label_config = project.get("label_config") if isinstance(project, dict) else None
    if label_config is None:
        label_config = label_config_of(project_id)
    try:
        return labeling_config.parse(label_config) if isinstance(label_config, str) else None
    except LabelingConfigError:
        return None


def project_of(payload: Mapping[str, Any]) -> int | None:
    """The number of the project in a request, None if there is none. Raises RequestError when it is invalid."""
    return None if payload.get("project") is None else _project_id(payload["project"])


def _project_id(project: Any) -> int:
    """The number from a project object, a number, or the `"<id>.<created epoch>"` of /setup and /predict."""
    value = project.get("id") if isinstance(project, dict) else project
    if isinstance(value, str):
        text = value.split(".", 1)[0]
        value = int(text) if text.isdecimal() and len(text) <= len(str(GREATEST_ID)) else None
    number = reference(value)
    if not number:  # 0 means all projects in this code, and no request may say so
        raise RequestError(
            'The request names no project; "project" must be its number, "<number>.<time>" or an object.'
        )
    return number
