"""What MLflow records of retrains and champions: in its own SQLite store, which a server would use too."""

from __future__ import annotations

import importlib.util
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from backend import jobs
from backend.domain.errors import CaptionerError
from backend.reports.doctor import services
from backend.retraining.tracking import queueing, server
from backend.settings import Settings, mlflow_defaults
from backend.store.registry import DEFAULT, ModelVersion, Registry
from backend.store.retrains import DONE, FAILED, Retrain
from backend.store.store import Store
from tests.conftest import Once
from tests.factories import correction, saved, settings
from tests.fakes import Answer, host
from training.data import manifest
from training.data.manifest import HELD_OUT, Row
from training.gate.bootstrap import Difference
from training.gate.gate import Verdict
from training.gate.verdict import Example, Scores, SetVerdict
from training.metrics import Score

pytestmark = pytest.mark.xdist_group("mlflow")  # importing it takes seconds

CAPTION = "a caption that nobody else may read"


@pytest.fixture
def mlflow(once: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's client over an empty SQLite database."""
    pytest.importorskip("mlflow")
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, {"MLFLOW_DISABLE_TELEMETRY": "true"}.get(name, "1"))
    from mlflow import MlflowClient

    def make(folder: Path) -> None:
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    empty = once("mlflow", make) / "mlflow.db"
    (tmp_path / "mlflow.db").write_bytes(empty.read_bytes())
    monkeypatch.chdir(tmp_path)  # where artifacts of a database without a server go
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    return MlflowClient(uri, uri)


@pytest.fixture
def configured(tmp_path: Path) -> Settings:
    return settings(
        tmp_path / "data",
        MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}",
        MLFLOW_EXPERIMENT_NAME="photographs",
    )


@pytest.fixture
def store(configured: Settings) -> Iterator[Store]:
    store = Store(configured.database_url)
    store.migrate()
    Registry(store).register(ModelVersion("starter", configured.data_dir / "models" / "starter"))
    Registry(store).promote(DEFAULT, "starter", "chosen as default", "operator")
    yield store
    store.close()


def retrained(
    store: Store, folder: Path, name: str = "p1-v1", decision: str = "promote", parent: str = "starter"
) -> Any:
    """A retrain that has ended with this version, which serves where it is promoted."""
    checkpoint, rows = folder / "models" / name, folder / "snapshots" / name / "manifest.jsonl"
    checkpoint.mkdir(parents=True)
    history = [{"stage": "train", "epoch": 1, "loss": 2.5, "seconds": 3.0}, {"stage": "train", "epoch": 2, "loss": 2.0}]
    training = {"batch_size": 8, "encoder": {"name": "small_cnn"}, "seed": None}
    extra = {"training": training, "data": "abc", "images": 12, "history": history, "seconds": 6.0}
    parts = ("encoder", "decoder", "transform", "decoding", "style")
    (checkpoint / "config.json").write_text(json.dumps({"format": 3, **{part: {} for part in parts}, "extra": extra}))
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    (checkpoint / "examples").mkdir()
    (checkpoint / "examples" / "examples.json").write_text(json.dumps({"examples": [CAPTION]}))
    manifest.save([Row(folder / "images" / "x.png", "a" * 64, (CAPTION,), HELD_OUT)], rows)
    scores = Scores(
        *(Score(each, value, "v1") for each, value in (("BLEU-4", 21.0), ("ROUGE-L", 40.0), ("CIDEr-D", 55)))
    )
    worst = Example("x.png", (CAPTION,), CAPTION, CAPTION, -4.0)
    difference = Difference(2.0, 0.5, 3.5, 0.7, 0.05)
    of_set = SetVerdict("held-out", "corrections", 40, "h", 0, 0.05, scores, scores, difference, (worst,))
    bleu = Score("BLEU-4", 23.0, "v1")
    verdict = Verdict(decision, False, "BLEU-4 23.0 against 21.0", 40, scores.bleu_4, bleu, 1.0, sets=(of_set,))  # type: ignore[arg-type]
    claimed = _claimed(store)
    registry = Registry(store)
    registry.register(
        ModelVersion(name, checkpoint, 1, parent, rows, claimed.snapshot, verdict.to_json(), state="passed")
    )
    if decision == "promote":
        registry.promote(1, name, reason="better", by="gate")
    store.finish_retrain(claimed, state=DONE, outcome=f"{name} is judged.", version=name)
    return registry


def _claimed(store: Store) -> Retrain:
    number = len(store.corrections(1)) + 1
    store.record(saved(correction(number)))
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested
    claimed = store.claim_retrain(requested.id)
    assert claimed
    frozen = store.freeze_retrain(claimed)
    assert frozen
    return frozen


def follow(configured: Settings, store: Store, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged meanwhile by us."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="backend"):
        server.follow(configured, store, 1)
    return [each.getMessage() for each in caplog.records if each.name.startswith("backend")]


def runs(mlflow: Any) -> list[Any]:
    experiment = mlflow.get_experiment_by_name("photographs")
    return list(mlflow.search_runs([experiment.experiment_id], order_by=["tags.retrain"])) if experiment else []


def test_a_retrain_is_a_run_with_its_recipe_figures_and_files(
    mlflow: Any, configured: Settings, store: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    retrained(store, configured.data_dir)
    assert follow(configured, store, caplog) == []
    [run] = runs(mlflow)
    assert (run.info.run_name, run.info.status) == ("p1-v1", "FINISHED")
    [retrain] = store.retrains(1)
    told = {name: run.data.tags[name] for name in ("project", "version", "parent", "verdict", "outcome", "snapshot")}
    assert told == {
        "project": "1",
        "version": "p1-v1",
        "parent": "starter",
        "verdict": "promote",
        "outcome": "p1-v1 is judged.",
        "snapshot": retrain.snapshot,
    }
    assert run.data.params == {"batch_size": "8", "encoder.name": "small_cnn", "seed": "None", "data": "abc"}
    by_epoch = [(each.step, each.value) for each in mlflow.get_metric_history(run.info.run_id, "loss")]
    assert by_epoch == [(1, 2.5), (2, 2.0)]
    figures = run.data.metrics
    assert (figures["images"], figures["training_seconds"], figures["gate/pairs"]) == (12, 6, 40)
    assert (figures["gate/candidate_bleu_4"], figures["gate/champion_bleu_4"]) == (23, 21)
    assert (figures["gate/corrections/candidate_cider_d"], figures["gate/corrections/difference_lower"]) == (55, 0.5)
    files = {each.path for each in mlflow.list_artifacts(run.info.run_id)}
    assert files == {"checkpoint", "report.md", "snapshot.jsonl", "verdict.json"}
    (tmp_path / "found").mkdir()
    folder = Path(mlflow.download_artifacts(run.info.run_id, "", str(tmp_path / "found")))
    assert (folder / "checkpoint" / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((folder / "snapshot.jsonl").read_text()) == {
        "sha256": "a" * 64,
        "split": "held_out",
        "weight": 1.0,
        "captions": 1,
    }
    for path in folder.rglob("*.*"):
        assert CAPTION not in path.read_text(errors="replace"), path
        assert str(configured.data_dir) not in path.read_text(errors="replace"), path


def test_versions_are_registered_and_the_alias_follows_the_champion(
    mlflow: Any, configured: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def champion() -> str | None:
        model = mlflow.get_registered_model("captioner-project-1")
        number = model.aliases.get("champion")
        return number and mlflow.get_model_version(model.name, number).tags["version"]

    registry = retrained(store, configured.data_dir)
    follow(configured, store, caplog)
    assert champion() == "p1-v1"
    retrained(store, configured.data_dir, "p1-v2", parent="p1-v1")
    retrained(store, configured.data_dir, "p1-v3", "reject", parent="p1-v2")
    follow(configured, store, caplog)
    assert champion() == "p1-v2"
    found = mlflow.search_model_versions("name = 'captioner-project-1'")
    assert {(each.tags["version"], each.tags["verdict"]) for each in found} == {
        ("p1-v1", "promote"),
        ("p1-v2", "promote"),
        ("p1-v3", "reject"),
    }
    registry.promote(1, "p1-v3", reason="by hand", by="operator")
    follow(configured, store, caplog)
    assert champion() == "p1-v3"
    for expected in ("p1-v2", "p1-v1", None):  # the starter, which is not registered there
        registry.rollback(1)
        follow(configured, store, caplog)
        assert champion() == expected
    assert follow(configured, store, caplog) == []
    assert len(runs(mlflow)) == len(mlflow.search_model_versions("name = 'captioner-project-1'")) == 3, "each once"


def test_the_alias_of_another_database_stays(
    mlflow: Any, configured: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry = retrained(store, configured.data_dir)
    follow(configured, store, caplog)
    name = "captioner-project-1"
    theirs = mlflow.create_model_version(name, "file:///elsewhere", tags={"database": "another", "version": "p1-v1"})
    mlflow.set_registered_model_alias(name, "champion", theirs.version)
    registry.rollback(1)  # to the starter
    assert follow(configured, store, caplog) == []
    assert str(mlflow.get_registered_model(name).aliases["champion"]) == str(theirs.version)


def test_a_run_that_somebody_has_deleted_is_left_alone(
    mlflow: Any, configured: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry = retrained(store, configured.data_dir)
    follow(configured, store, caplog)
    [run] = runs(mlflow)
    mlflow.delete_run(run.info.run_id)
    registry.replace_verdict("p1-v1", {**registry.get("p1-v1").verdict, "decision": "reject"})
    assert follow(configured, store, caplog) == []
    assert runs(mlflow) == []


def test_a_version_that_is_judged_again_has_its_new_verdict(
    mlflow: Any, configured: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry = retrained(store, configured.data_dir)
    follow(configured, store, caplog)
    verdict = registry.get("p1-v1").verdict
    registry.replace_verdict("p1-v1", {**verdict, "decision": "reject", "pairs": 120})
    assert follow(configured, store, caplog) == []
    [run] = runs(mlflow)
    assert (run.data.tags["verdict"], run.data.metrics["gate/pairs"], run.info.status) == ("reject", 120, "FINISHED")
    [version] = mlflow.search_model_versions("name = 'captioner-project-1'")
    assert version.tags["verdict"] == "reject"


def test_a_retrain_that_failed_is_a_run_that_failed_and_names_no_address(
    mlflow: Any, configured: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    away = "None of the 3 corrections can be used; the first: https://photos.example/ann.jpg cannot be fetched."
    store.finish_retrain(_claimed(store), state=FAILED, outcome=away, version=None)
    assert follow(configured, store, caplog) == []
    [run] = runs(mlflow)
    said = "It failed; `captioner train-status --project 1` says why."
    assert (run.info.status, run.data.tags["outcome"]) == ("FAILED", said)


def test_what_was_interrupted_is_finished_and_one_bad_run_keeps_no_other_away(
    mlflow: Any, configured: Settings, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = retrained(store, configured.data_dir)
    retrained(store, configured.data_dir, "p1-v2", parent="p1-v1")
    usual = server.record

    def no_weights(registry: Registry, retrain: Retrain) -> Any:
        if retrain.version == "p1-v1":
            raise OSError("The disk is away.\nat line 7")
        return usual(registry, retrain)

    monkeypatch.setattr(server, "record", no_weights)
    [said] = follow(configured, store, caplog)
    assert said == "MLflow could not record project 1 (The disk is away); it is tried again later."
    assert [run.info.run_name for run in runs(mlflow)] == ["p1-v2"]
    monkeypatch.setattr(server, "record", usual)
    with monkeypatch.context() as patched:
        patched.setattr(type(mlflow), "log_artifact", lambda *_: (_ for _ in ()).throw(OSError("cut off")))
        follow(configured, store, caplog)
    assert {run.info.run_name: run.info.status for run in runs(mlflow)} == {"p1-v1": "RUNNING", "p1-v2": "FINISHED"}
    assert follow(configured, store, caplog) == []
    assert {run.info.status for run in runs(mlflow)} == {"FINISHED"}
    assert len(runs(mlflow)) == 2
    assert registry.champion(1).name == "p1-v2"


def test_a_server_that_is_down_or_slow_costs_one_sentence_and_little_time(
    mlflow: Any, tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = settings(tmp_path / "data", MLFLOW_TRACKING_URI="http://someone:secret@127.0.0.1:1")
    [said] = follow(away, store, caplog)
    assert said.startswith("MLflow could not record project 1 (API request to")
    assert said.endswith("it is tried again later.")
    answered = threading.Event()

    def never(request: BaseHTTPRequestHandler) -> Answer:
        answered.wait(30)
        return Answer(500)

    with host() as slow:
        slow.answers["/api/2.0/mlflow/experiments/get-by-name"] = never
        asked = settings(tmp_path / "data", MLFLOW_TRACKING_URI=slow.url)
        caplog.clear()
        server.follow(asked, store, 1, most_seconds=0.05)
        answered.set()
    assert "MLflow has not taken what is new of project 1 within 0.05 s; it is tried again later." in caplog.messages


def test_without_the_extra_a_sentence_names_the_command(
    configured: Settings, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    [said] = follow(configured, store, caplog)
    assert said == (
        "MLFLOW_TRACKING_URI is set, but MLflow is not installed: run `pip install '.[mlflow]'` in the folder of this "
        "project, or unset it."
    )
    with pytest.raises(CaptionerError, match="MLflow is not installed"):
        queueing.Tracking().queue_due(configured, store, None)  # type: ignore[arg-type]


def test_doctor_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(uri: str) -> list[tuple[str, str, bool]]:
        asked = settings(tmp_path / "data", MLFLOW_TRACKING_URI=uri)
        return [(each.problem, each.remedy, each.warning) for each in services.mlflow(asked)]

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with host() as running:
        running.answers["/health"] = Answer(200)
        assert found(running.url) == found("sqlite:///mlflow.db") == []
        running.answers["/health"] = Answer(502)
        [(problem, _, _)] = found(running.url)
        assert problem.startswith("MLflow's server does not answer (status 502)")
    [(problem, remedy, is_warning)] = found("http://someone:secret@127.0.0.1:1")
    assert problem == "MLflow's server does not answer (ConnectionError), so retrains are not recorded there."
    assert remedy.startswith("Start it, or correct MLFLOW_TRACKING_URI")
    assert is_warning
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    [(problem, remedy, _)] = found("http://127.0.0.1:1")
    assert problem == "MLFLOW_TRACKING_URI is set, but MLflow is not installed."
    assert remedy.startswith("Run `pip install '.[mlflow]'` in the folder of this project")


class Queue:
    def __init__(self) -> None:
        self.jobs: list[tuple[int, str]] = []

    def enqueue_tracking(self, project_id: int, state: str) -> None:
        self.jobs.append((project_id, state))


def test_a_job_is_queued_after_each_change_and_now_and_then(
    configured: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "check", lambda: None)
    clock = [0.0]
    monkeypatch.setattr(queueing.time, "monotonic", lambda: clock[0])
    tracking, queue = queueing.Tracking(), Queue()

    def queued() -> int:
        before = len(queue.jobs)
        tracking.queue_due(configured, store, queue)  # type: ignore[arg-type]
        return len(queue.jobs) - before

    assert queued() == 0, "no project yet"
    registry = retrained(store, configured.data_dir)
    assert (queued(), queued()) == (1, 0)
    registry.rollback(1)
    assert (queued(), queued()) == (1, 0)
    clock[0] = 601.0
    assert (queued(), queued()) == (1, 0)
    assert len({state for _, state in queue.jobs}) == 2
    tracking.queue_due(settings(tmp_path / "data"), store, queue)  # type: ignore[arg-type]
    assert len(queue.jobs) == 3, "nothing without the variable"


def test_the_job_follows_the_project(configured: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(server, "follow", lambda settings, store, project_id: asked.append(project_id))
    for variable, value in configured.to_env().items():
        monkeypatch.setenv(variable, value)
    jobs.track(7)
    assert asked == [7]


def test_mlflows_own_variables_override_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    mlflow_defaults()
    assert (os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_DISABLE_TELEMETRY"]) == ("77", "true")
