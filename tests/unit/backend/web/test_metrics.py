"""What Prometheus is told, read by its own parser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families as families

from backend.serving.lanes import Lane
from backend.store.database import now
from backend.store.reconciliations import ReconciliationState
from backend.store.registry import DEFAULT, ModelVersion
from backend.store.retrains import DONE
from backend.web.app import create_app
from backend.web.services import Services
from tests import factories
from tests.factories import correction, picture, saved, served
from tests.fakes import Answer, Host, host
from tests.unit.backend.web.test_routes import asked, recorded

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def studio() -> Iterator[Host]:
    with host() as running:
        bodies = [recorded(name, "/predict") for name in ("15_test_predict", "22_retrieve_predictions")]
        for number, task in enumerate(task for body in bodies for task in body["tasks"]):
            running.answers[task["data"]["image"]] = Answer(200, picture((number, 0, 0)))
        yield running


@pytest.fixture
def services(tmp_path: Path, studio: Host) -> Services:
    return factories.backend(tmp_path, LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY="a" * 40)


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


def scraped(client: FlaskClient) -> Samples:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return parsed(answer.get_data(as_text=True))


def parsed(text: str) -> Samples:
    names = [family.name for family in families(text)]
    assert len(set(names)) == len(names), "a family stands twice"
    return {
        (each.name, tuple(sorted(each.labels.items()))): each.value
        for family in families(text)
        for each in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


def test_counters_match_what_was_sent(client: FlaskClient, services: Services, studio: Host) -> None:
    served(services, "v1")
    before = scraped(client)
    body = recorded("22_retrieve_predictions", "/predict")
    missing = body["tasks"][-1]["data"]["image"]
    studio.answers[missing] = Answer(404)
    count, drafted = len(body["tasks"]), len(body["tasks"]) - 1
    for _ in range(3):
        assert client.post("/predict", json=body).status_code == 200
    client.get("/nowhere")
    client.post("/webhook", json=recorded("31_create_corrected", "/webhook"))
    client.post("/webhook", json={"action": "MADE_UP", "project": {"id": 1}})
    after = scraped(client)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("captioner_predictions_total", result="new") == drafted
    assert grown("captioner_predictions_total", result="stored") == 2 * drafted
    assert grown("captioner_predictions_total", result="none") == 3
    assert grown("captioner_cache_total", cache="drafts", result="hit") == 2 * drafted
    assert grown("captioner_cache_total", cache="drafts", result="miss") == count + 2
    assert grown("captioner_cache_total", cache="hypotheses", result="miss") == drafted
    assert grown("captioner_cache_total", cache="images", result="miss") >= count
    assert grown("captioner_batch_images_sum") == drafted
    assert grown("captioner_phase_seconds_count", phase="fetch") == count + 2
    for phase in ("decode", "queue"):
        assert grown("captioner_phase_seconds_count", phase=phase) == drafted
    assert grown("captioner_phase_seconds_count", phase="model") == grown("captioner_batch_images_count") > 0
    assert grown("captioner_requests_total", endpoint="predict", status="200") == 3
    assert grown("captioner_requests_total", endpoint="none", status="404") == 1
    assert grown("captioner_request_seconds_count", endpoint="predict") == 3
    assert grown("captioner_events_total", action="ANNOTATION_CREATED") == 1
    assert grown("captioner_events_total", action="other") == 1
    assert grown("captioner_corrections_total") == 1
    for lane in ("small", "large"):
        assert value(after, "captioner_images_waiting", lane=lane) == 0


def test_a_completed_caption_is_counted_as_such(client: FlaskClient, services: Services) -> None:
    served(services, "v1")
    before = scraped(client)
    assert client.post("/predict", json=asked(["a red"])).status_code == 200
    after = scraped(client)
    grown = {
        result: value(after, "captioner_predictions_total", result=result)
        - value(before, "captioner_predictions_total", result=result)
        for result in ("completed", "new", "none")
    }
    assert grown == {"completed": 1, "new": 0, "none": 0}


def test_an_image_that_waits_is_counted_until_it_has_its_caption(services: Services, client: FlaskClient) -> None:
    before = scraped(client)
    with services.drafting._room.taken(Lane.LARGE, 7) as leave:
        leave(3)
        waiting = value(scraped(client), "captioner_images_waiting", lane="large")
        assert waiting - value(before, "captioner_images_waiting", lane="large") == 4
    assert value(scraped(client), "captioner_images_waiting", lane="large") == waiting - 4


def test_sql_is_read_when_asked(client: FlaskClient, services: Services) -> None:
    store = services.store
    factories.promoted(services, "v1")
    judged = {"p1-v1": {"decision": "promoted"}, "p1-v2": {"decision": "held"}, "p1-v3": {"decision": "held"}}
    for name, verdict in judged.items():
        services.registry.register(ModelVersion(name, Path(name), project_id=1, verdict=verdict))
    store.record(saved(correction(1)))
    retrain = store.request_retrain(1, asked=True, every=0)
    assert retrain is not None
    claimed = store.claim_retrain(retrain.id)
    assert claimed is not None
    store.finish_retrain(claimed, state=DONE, outcome="It is better.", version="p1-v1")
    store.record(saved(correction(2), correction(3)))
    store.save_reconciliation(ReconciliationState(1, compared_at=now(), repaired=12))
    store.save_failure(1, "Label Studio is away.")

    found = scraped(client)
    assert value(found, "captioner_up", part="database") == 1
    assert value(found, "captioner_up", part="redis") == 0, "nobody answers there"
    assert value(found, "captioner_corrections_waiting", project="1") == 2
    assert 0 < value(found, "captioner_inbox_lag_seconds", project="1") < 60
    assert value(found, "captioner_repairs_total", project="1") == 12
    assert value(found, "captioner_comparison_failing", project="1") == 1
    assert 0 <= value(found, "captioner_comparison_age_seconds", project="1") < 60
    assert value(found, "captioner_retrains", project="1", state="done") == 1
    assert value(found, "captioner_verdicts", project="1", verdict="held") == 2
    assert value(found, "captioner_verdicts", project="1", verdict="promoted") == 1
    assert value(found, "captioner_champion", project="1", version="v1") == 1
    store.save_reused_seq(1, store.revision(1))
    assert value(scraped(client), "captioner_inbox_lag_seconds", project="1") == 0


def test_a_project_that_the_default_champion_serves_lags_too(client: FlaskClient, services: Services) -> None:
    services.store.record(saved(correction(1)))
    assert value(scraped(client), "captioner_inbox_lag_seconds", project="1") == 0, "nothing drafts it"
    factories.promoted(services, "v1", DEFAULT)
    assert value(scraped(client), "captioner_inbox_lag_seconds", project="1") > 0


def test_what_people_typed_and_named_is_not_told(client: FlaskClient, services: Services) -> None:
    served(services, "v1")
    body = recorded("22_retrieve_predictions", "/predict")
    results = client.post("/predict", json=body).get_json()["results"]
    services.store.record(saved(correction(1, text="a secret caption")))
    told = client.get("/metrics").get_data(as_text=True)
    texts = [result["value"]["text"][0] for item in results if item for result in item["result"]]
    names = [task["data"]["image"].rpartition("/")[2] for task in body["tasks"]]
    for text in ("a secret caption", *texts, *names):
        assert text not in told


def test_a_database_that_fails_is_said_and_the_rest_is_told(client: FlaskClient, services: Services) -> None:
    services.store.engine.dispose()
    (services.settings.data_dir / "captioner.db").write_bytes(b"no database" * 1000)
    found = scraped(client)
    assert value(found, "captioner_up", part="database") == 0
    assert ("captioner_corrections_total", ()) in found


def test_the_memory_of_each_gpu_is_told(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.champions, "device_memory", lambda: {"cuda:0": (3, 8), "cuda:1": (4, 16)})
    found = scraped(client)
    for device, used, total in (("cuda:0", 3, 8), ("cuda:1", 4, 16)):
        assert value(found, "captioner_gpu_memory_used_bytes", device=device) == used
        assert value(found, "captioner_gpu_memory_bytes", device=device) == total
