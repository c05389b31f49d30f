"""A whole retrain as MLflow's own server and TensorBoard's own reader show it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from backend import jobs
from backend.retraining.tracking.queueing import Tracking
from backend.system.ports import free_port
from tests.integration.conftest import Loop, wait_for
from training.captioner import checkpoint
from training.config import TrainingConfig

pytestmark = [pytest.mark.xdist_group("mlflow"), pytest.mark.slow]  # the server takes ten seconds of a core to start


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    url: str

    def wait(self) -> None:
        wait_for(self._is_healthy, "MLflow's server", self.process)

    def _is_healthy(self) -> bool:
        try:
            return requests.get(f"{self.url}/health", timeout=60).ok
        except requests.ConnectionError:
            return False


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server on SQLite, which is still starting."""
    for name in ("mlflow", "flask_cors", "aiohttp"):
        pytest.importorskip(name, reason=f"MLflow's server needs {name}, of the extra `dev`")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    argv = [Path(sys.executable).with_name("mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    environ = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*map(str, argv), "--workers", "1"],
            env=environ,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Server(process, f"http://127.0.0.1:{port}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # it starts a process that listens
        process.wait()


def test_mlflow_and_tensorboard_show_the_run_of_a_retrain(
    make_loop: Callable[..., Loop], mlflow_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mlflow import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    usual = TrainingConfig.retraining
    monkeypatch.setattr(TrainingConfig, "retraining", lambda *given, **changes: usual(*given, epochs=1, **changes))
    loop = make_loop(CAPTIONER_GATE_MARGIN="100", MLFLOW_TRACKING_URI=mlflow_server.url)
    for variable, value in {**loop.settings.to_env(), "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}.items():
        monkeypatch.setenv(variable, value)
    loop.serve_starter()
    loop.correct([*loop.pictures.new(held_out=True)[:3], *loop.pictures.new(held_out=False)[:6]])
    retrain = loop.store.request_retrain(1, asked=True, every=50)
    assert retrain
    jobs.retrain(retrain.id)
    waiting = loop.queue.waiting()
    for _ in range(2):  # two web processes
        Tracking().queue_due(loop.settings, loop.store, loop.queue)
    assert loop.queue.waiting() == waiting + 1
    mlflow_server.wait()  # it started meanwhile
    jobs.track(1)

    history = checkpoint.read_info(loop.registry.get("p1-v1").checkpoint)["extra"]["history"]
    client = MlflowClient(mlflow_server.url, mlflow_server.url)
    experiment = client.get_experiment_by_name("captioner")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["parent"]) == ("p1-v1", "FINISHED", "starter")
    assert run.data.metrics["loss"] == pytest.approx(history[-1]["loss"])
    assert run.data.metrics["gate/pairs"] == 3
    [path] = [each.path for each in client.list_artifacts(run.info.run_id, "checkpoint") if "vocabulary" in each.path]
    held = Path(client.download_artifacts(run.info.run_id, path, str(tmp_path))).read_text()
    assert held == (loop.registry.get("p1-v1").checkpoint / "vocabulary.json").read_text()
    assert alias(client) == "p1-v1"
    loop.registry.rollback(1)
    jobs.track(1)
    assert alias(client) is None, "the starter serves again"
    loop.registry.promote(1, "p1-v1", reason="by hand", by="operator")
    jobs.track(1)
    assert alias(client) == "p1-v1"

    events = EventAccumulator(str(loop.settings.data_dir / "tensorboard" / "p1-v1")).Reload()
    scalars = [(each.step, each.value) for each in events.Scalars("loss")]
    assert scalars == [(step, pytest.approx(entry["loss"])) for step, entry in enumerate(history, start=1)]
    assert not events.Tags()["tensors"], "no captions"


def alias(client: Any) -> str | None:
    """The version that MLflow calls champion."""
    model = client.get_registered_model("captioner-project-1")
    number = model.aliases.get("champion")
    return client.get_model_version(model.name, number).tags["version"] if number else None
