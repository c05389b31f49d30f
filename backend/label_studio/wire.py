"""Label Studio's JSON in and out of this project's words, by Label Studio 1.23.2 (recorded in tests/assets)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import labeling_config
from backend.corrections import Correction, Draft, Event, Task, normalise
from backend.errors import RequestError
from labeling_config import LabelingConfigError, Tags

SECRETS = frozenset({"token", "access_token", "task_data_login", "task_data_password"})
GREATEST_ID = 2**63 - 1
"""What a 64-bit column holds; Label Studio's ids are as wide."""

DEEPEST = 100
"""Levels of lists and objects in a payload; Label Studio's own have about ten."""

LONGEST_NAME = 64
"""Characters kept of an action or an origin, which are short words."""

LONGEST_LEAD_TIME_SECONDS = 1e9


@dataclass(frozen=True)
class PredictRequest:
    """POST /predict: the tasks to draft, in the order their results must have."""

    project_id: int
    tasks: tuple[Task, ...]
    tags: Tags


@dataclass(frozen=True)
class SetupRequest:
    """POST /setup. `hostname` is where Label Studio believes to be; `access_token` is a legacy token, often dead."""

    project_id: int
    label_config: str
    hostname: str | None
    access_token: str | None


def predict_request(payload: Any) -> PredictRequest:
    """Decode the body of POST /predict. Raises RequestError when it is malformed or its labelling config unusable."""
    body = _object(_clean(payload), "The request")
    tags = _tags(_text(body, "label_config", "The request"))
    project_id = _project_id(body.get("project"))
    return PredictRequest(project_id, _tasks(_list(body, "tasks", "The request"), project_id, tags), tags)


def setup_request(payload: Any) -> SetupRequest:
    """Decode the body of POST /setup; the labelling config is not looked into. Raises RequestError when malformed."""
    body = _object(_clean(payload), "The request")
    return SetupRequest(
        project_id=_project_id(body.get("project")),
        label_config=_text(body, "schema", "The request"),
        hostname=_optional_text(body, "hostname"),
        access_token=_optional_text(body, "access_token"),
    )


def event(payload: Any, label_config_of: Callable[[int], str | None] = lambda project_id: None) -> Event:
    """Decode any webhook call, START_TRAINING included; an action this project has no use for becomes an event without
    effects. So does an annotation where the project has no caption box: there is no caption in it.

    `label_config_of` knows the labelling config of a project that the call names only by its number. Raises
    RequestError when it names no action or project, or when something in it has no id or time.
    """
    body = _object(_clean(payload), "The webhook call")
    action = _text(body, "action", "The webhook call")[:LONGEST_NAME]
    annotations = _both(body, "annotation")
    tasks = _both(body, "task")
    project_id = _project_id(body.get("project") or next((a.get("project") for a in annotations + tasks), None))
    kind, _, verb = action.rpartition("_")
    record = _without_secrets({key: value for key, value in body.items() if key != "project"})
    record["project"] = project_id  # the project as a whole is bulky, secret and known
    deleted = verb == "DELETED"
    of_annotations, of_tasks = kind in {"ANNOTATION", "ANNOTATIONS"}, kind in {"TASK", "TASKS"}
    tags = _tags_of_project(body.get("project"), project_id, label_config_of)
    return Event(
        action=action,
        project_id=project_id,
        corrections=_corrections(annotations, project_id, tags) if of_annotations and not deleted and tags else (),
        tasks=_tasks(tasks, project_id, tags) if (of_annotations or of_tasks) and not deleted and tags else (),
        deleted_annotations=_ids(annotations, "an annotation") if of_annotations and deleted else (),
        deleted_tasks=_ids(tasks, "a task") if of_tasks and deleted else (),
        body=record,
    )


def corrections_from_export(
    export: Any, project_id: int, tags: Tags
) -> tuple[tuple[Task, ...], tuple[Correction, ...]]:
    """Tasks and corrections of Label Studio's JSON export (`exportType=JSON`). Raises RequestError when malformed."""
    if not isinstance(export, list):
        raise RequestError("The export is not a JSON list of tasks.")
    entries = [_object(entry, "A task of the export") for entry in _clean(export)]
    annotations = [
        {"task": entry.get("id"), **_object(annotation, "An annotation of the export")}
        for entry in entries
        for annotation in entry.get("annotations") or []
    ]
    return _tasks(entries, project_id, tags), _corrections(annotations, project_id, tags)


def prediction(draft: Draft, tags: Tags) -> dict[str, Any]:
    """The draft as one item of the `results` of POST /predict, or as a prediction of POST /api/predictions."""
    return {
        "model_version": draft.version,
        "score": draft.score,
        "result": [result(tags, draft.text)],
    }


def result(tags: Tags, *texts: str, origin: str | None = None) -> dict[str, Any]:
    """Captions as one entry of Label Studio's `result` lists: of a prediction, or with `origin` of an annotation."""
    entry: dict[str, Any] = {
        "from_name": tags.caption_tag,
        "to_name": tags.image_tag,
        "type": "textarea",
        "value": {"text": list(texts)},
    }
    return entry if origin is None else {**entry, "origin": origin}


def _tasks(entries: Sequence[Any], project_id: int, tags: Tags) -> tuple[Task, ...]:
    tasks = []
    for entry in entries:
        task = _object(entry, "A task")
        data = task.get("data")
        image = data.get(tags.data_key) if isinstance(data, dict) else None
        image = image if isinstance(image, str) and image.strip() else None
        tasks.append(Task(_id(task, "a task"), project_id, image, _optional_time(task.get("created_at"))))
    return tuple(tasks)


def _corrections(annotations: Sequence[Any], project_id: int, tags: Tags) -> tuple[Correction, ...]:
    return tuple(_correction(annotation, project_id, tags) for annotation in annotations)


def _correction(annotation: Mapping[str, Any], project_id: int, tags: Tags) -> Correction:
    annotation_id = _id(annotation, "an annotation")
    task_id = _reference(annotation.get("task"))
    if task_id is None:
        raise RequestError(f'Annotation {annotation_id} has no number "task".')
    typed, origin = _captions(annotation.get("result"), tags)
    return Correction(
        annotation_id=annotation_id,
        project_id=project_id,
        task_id=task_id,
        texts=tuple(normalise(text) for text in typed),
        updated_at=_time(annotation.get("updated_at"), f"Annotation {annotation_id}"),
        was_cancelled=bool(annotation.get("was_cancelled")),
        ground_truth=bool(annotation.get("ground_truth")),
        origin=origin,
        annotator=_reference(annotation.get("completed_by")),
        lead_time_seconds=_seconds(annotation.get("lead_time")),
        parent_prediction=_reference(annotation.get("parent_prediction")),
        typed=typed,
        created_at=_optional_time(annotation.get("created_at")),
    )


def _captions(results: Any, tags: Tags) -> tuple[tuple[str, ...], str | None]:
    """The captions as typed, and where the last came from.

    Label Studio checks nothing in `result`, so what is not a caption is passed over. Where the config asks for one
    caption, the last non-empty text counts: the editor appends what was typed beside a draft to the draft.
    """
    found: list[tuple[str, str | None]] = []
    for entry in results if isinstance(results, list) else []:
        if not isinstance(entry, dict) or entry.get("from_name") != tags.caption_tag or entry.get("type") != "textarea":
            continue
        value = entry.get("value")
        texts = value.get("text") if isinstance(value, dict) else None
        origin = entry.get("origin")
        found += [
            (text, origin[:LONGEST_NAME] if isinstance(origin, str) else None)
            for text in ([texts] if isinstance(texts, str) else texts if isinstance(texts, list) else [])
            if isinstance(text, str) and normalise(text)
        ]
    if not found:
        return (), None
    kept = found if tags.several else found[-1:]
    return tuple(text for text, _ in kept), kept[-1][1]


def _both(body: Mapping[str, Any], noun: str) -> list[dict[str, Any]]:
    """What stands under `noun` and under its plural, each an object or a list: Label Studio mixes all four."""
    found: list[Any] = []
    for key in (noun, f"{noun}s"):
        value = body.get(key)
        found += value if isinstance(value, list) else [] if value is None else [value]
    return [_object(item, f"The {noun} of a webhook call") for item in found]


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
    """The project a request names, None where it names none. Raises RequestError when it is not a project's number."""
    return None if payload.get("project") is None else _project_id(payload["project"])


def _project_id(project: Any) -> int:
    """From the full project object, its number, or the `"<id>.<created epoch>"` of /setup and /predict."""
    value = project.get("id") if isinstance(project, dict) else project
    if isinstance(value, str):
        text = value.split(".", 1)[0]
        value = int(text) if text.isdecimal() and len(text) <= len(str(GREATEST_ID)) else None
    number = _reference(value)
    if not number:  # 0 stands for all projects in here, and must not be reached from outside
        raise RequestError(
            'The request names no project; "project" must be its number, "<number>.<time>" or an object.'
        )
    return number


def _reference(value: Any) -> int | None:
    """An id given as a number or as an object with one; None for anything else (`null`, `{}`, no number of an id)."""
    number = value.get("id") if isinstance(value, dict) else value
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= GREATEST_ID else None


def _id(entry: Mapping[str, Any], noun: str) -> int:
    number = _reference(entry.get("id"))
    if number is None:
        raise RequestError(f'The "id" of {noun} is missing or not a 64-bit number.')
    return number


def _ids(entries: Sequence[Mapping[str, Any]], noun: str) -> tuple[int, ...]:
    return tuple(_id(entry, noun) for entry in entries)


def _time(value: Any, owner: str) -> datetime:
    moment = _optional_time(value)
    if moment is None:
        raise RequestError(f'{owner} has no valid "updated_at" (an ISO 8601 time is needed).')
    return moment


def _optional_time(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _seconds(value: Any) -> float | None:
    """A duration; None for what is none, NaN and numbers beyond all floats included."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= LONGEST_LEAD_TIME_SECONDS else None


def _object(value: Any, owner: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{owner} is not a JSON object.")
    return value


def _list(body: Mapping[str, Any], key: str, owner: str) -> list[Any]:
    value = body.get(key)
    if not isinstance(value, list):
        raise RequestError(f'{owner} has no list "{key}".')
    return value


def _text(body: Mapping[str, Any], key: str, owner: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RequestError(f'{owner} has no text "{key}".')
    return value


def _optional_text(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    return value.strip() or None if isinstance(value, str) else None


def _clean(value: Any, depth: int = 0) -> Any:
    """The JSON value as every database can store it, whatever its sender let through.

    Characters that no database takes, halves of surrogate pairs and NUL, become U+FFFD; NaN and infinity, which are no
    JSON, become null. Raises RequestError where it is nested deeper than anything Label Studio sends.
    """
    if depth > DEEPEST:
        raise RequestError(f"The request is nested more than {DEEPEST} levels deep.")
    if isinstance(value, dict):
        return {_clean(key): _clean(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, depth + 1) for item in value]
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(item) for key, item in value.items() if key not in SECRETS}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value
