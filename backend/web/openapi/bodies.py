"""Bodies of requests and answers, for their JSON schemas. Requests are decoded in `label_studio/wire.py`, which reads
no more of them than stands here; Label Studio sends more, which is ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.label_studio.captions import LONGEST_HINT
from backend.label_studio.payload import GREATEST_ID

Id = Annotated[int, Field(ge=0, le=GREATEST_ID)]


class Request(BaseModel):
    model_config = ConfigDict(extra="allow")


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ProjectObject(Request):
    """A project of Label Studio."""

    id: Annotated[int, Field(ge=1, le=GREATEST_ID)]
    label_config: Any = Field(None, description="the labelling config; without a text the one of /setup counts")


Project = Annotated[
    Annotated[int, Field(ge=1, le=GREATEST_ID)] | Annotated[str, Field(pattern=r"^0*[1-9]\d*(\.|$)")] | ProjectObject,
    Field(description='a number, "<number>.<time>" or an object with an "id"'),
]


class Task(Request):
    """A task of Label Studio. The labelling config says which of its data is the image."""

    id: Id
    data: Any = Field(None, description="an object with the image's address under the key of the labelling config")


class PredictRequest(Request):
    """Tasks to draft."""

    project: Project
    label_config: str = Field(description="the project's labelling config, as XML")
    tasks: list[Task]
    params: dict[str, Any] | None = Field(
        None,
        description="in interactive mode `context.result` is what stands in the editor: a hint of at most "
        f"{LONGEST_HINT} characters in the box for hints has the caption completed",
    )


class Value(Answer):
    text: list[str]


class Meta(Answer):
    text: list[str] = Field(description="the task whose correction the draft is, where it is one")


class Result(Answer):
    """A caption in the box of the labelling config."""

    from_name: str
    to_name: str
    type: Literal["textarea"]
    value: Value
    meta: Meta | None = None


class Prediction(Answer):
    """A draft; `result` is empty for a blind task."""

    model_version: str = Field(min_length=1)
    score: float = Field(ge=0, le=1)
    result: list[Result] = Field(max_length=1)


class PredictAnswer(Answer):
    """For each task, in order, its draft, or an empty list where there is none."""

    results: list[Prediction | Annotated[list[Any], Field(max_length=0)]]


class SetupRequest(Request):
    """A project that is being connected, or whose labelling config has changed."""

    project: Project
    schema_: str = Field(alias="schema", description="the labelling config, as XML")
    hostname: str | None = Field(None, description="Label Studio's address")
    access_token: str | None = Field(None, description="a legacy token, by which images are fetched")


class SetupAnswer(Answer):
    """The version that drafts the project; `untrained` where there is none."""

    model_version: str = Field(min_length=1)


class WebhookRequest(Request):
    """An event of Label Studio, or START_TRAINING. `annotation` and `task` may be objects or lists, and their plurals
    as well."""

    action: str
    project: Project | None = Field(None, description="may be left out where an annotation or task names it")
    annotation: Any = None
    annotations: Any = None
    task: Any = None
    tasks: Any = None


class WebhookAnswer(Answer):
    """The event is committed. `job` names the active retrain."""

    status: Literal["ok"]
    job: str = Field("", description="left out where no retrain is queued or running")


class VersionsRequest(Request):
    """Versions of which project; without one, of all."""

    project: Project | None = None


class VersionsAnswer(Answer):
    """Names of model versions, the newest first."""

    versions: list[str]


class HealthAnswer(Answer):
    """The process runs."""

    status: Literal["UP"]
    model_class: str


class ReadyAnswer(Answer):
    """The champions are loaded."""

    status: Literal["READY"]
    model_class: str


class ServingAnswer(Answer):
    """By project number the loaded version; 0 stands for projects without a champion of their own."""

    serving: dict[str, str]
    refused: dict[str, str] = Field(description="why the champion of a project cannot be loaded")
    database: str = Field(description="an id of the database, to tell two backends apart")


class ActiveRetrain(Answer):
    """A retrain that is queued or runs."""

    retrain: str
    state: Literal["queued", "running"]
    phase: str | None
    epoch: int | None
    epochs: int | None
    step: int | None
    steps: int | None
    loss: float | None
    images_at_once: int | None = Field(description="where memory does not suffice for whole batches")
    phase_seconds: float | None
    phase_left_seconds: float | None = Field(description="an estimate")
    phase_ends_at: str | None
    then: list[str] = Field(description="the phases that follow")
    left_seconds: float | None = Field(description="an estimate of the whole, by how long the last retrains took")
    ends_at: str | None
    elapsed_seconds: float | None
    heard_seconds_ago: float | None
    lost: bool = Field(description="whether its process seems to have died")
    attempt: int
    deaths: int
    postponed: int
    reason: str | None = Field(description="why it is postponed")
    requested_at: str
    started_at: str | None
    due_at: str | None


class EndedRetrain(Answer):
    """The last retrain that has ended."""

    retrain: str
    state: Literal["done", "failed", "cancelled"]
    outcome: str | None
    version: str | None
    attempt: int
    ended_at: str | None
    ended_seconds_ago: float | None
    seconds: float | None = Field(description="how long it ran, without waiting in the queue")


class ProjectProgress(Answer):
    project: int
    active: ActiveRetrain | None
    last: EndedRetrain | None
    usual_seconds: float | None = Field(description="how long the last retrains took that succeeded")


class TrainStatusAnswer(Answer):
    """The retrains of each project."""

    projects: list[ProjectProgress]


class CancelRequest(Request):
    """The project whose retrain is to end."""

    project: Project


class CancelAnswer(Answer):
    """What was cancelled, as a sentence too."""

    cancelled: str | None
    message: str


class ErrorAnswer(Answer):
    """What is wrong, and what to do about it."""

    error: str
