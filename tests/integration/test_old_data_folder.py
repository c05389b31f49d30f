"""A data folder that version 0.1.0 wrote migrates, serves, retrains and rolls back."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from backend import jobs
from backend.domain.errors import SettingsError
from backend.serving.champions import Champions
from backend.settings import Settings
from backend.store.drafts.refreshes import LIVE, WAITING
from backend.store.registry import Registry
from backend.store.retrains import DONE
from backend.store.store import Store
from tests import factories
from tests.unit.backend.store.test_database import differences
from training.config import TrainingConfig

ASSETS = Path(__file__).parents[1] / "assets"
EXPECTED = json.loads((ASSETS / "data-folder" / "expected.json").read_text())
IMAGES = [ASSETS / "checkpoints" / name for name in EXPECTED["captions"]]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a copy of the folder; retrains take two epochs."""
    with tarfile.open(ASSETS / "data-folder" / "data.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    given = factories.settings(
        tmp_path / "data",
        REDIS_URL="redis://127.0.0.1:1/0",
        LABEL_STUDIO_URL="http://127.0.0.1:18765",  # nobody answers there; all images are in the folder
        CAPTIONER_DEVICE="cpu",
        CAPTIONER_GATE_MARGIN="100",
    )
    for variable, value in given.to_env().items():
        monkeypatch.setenv(variable, value)
    usual = TrainingConfig.retraining
    monkeypatch.setattr(
        TrainingConfig, "retraining", lambda *given, **changes: usual(*given, **{"epochs": 2} | changes)
    )
    return given


@pytest.fixture
def store(settings: Settings) -> Store:
    """The folder's database, migrated. It was written elsewhere, and names its files by the absolute paths of then."""
    store = Store(settings.database_url)
    assert differences(store), "the schema of then"
    store.migrate()
    return store


def test_its_database_migrates_and_keeps_what_it_holds(store: Store) -> None:
    assert differences(store) == []
    registry = Registry(store)
    assert {retrain.snapshot: retrain.state for retrain in store.retrains(1)} == EXPECTED["retrains"]
    assert {version.name: version.state for version in registry.versions()} == EXPECTED["versions"]
    assert {str(project): version for project, version in registry.champions().items()} == EXPECTED["champions"]
    assert vars(store.counts(1)).items() <= EXPECTED["counts"].items()
    assert store.reconciliation_state(1).repairs == EXPECTED["reconciled"]
    refresh = store.refresh_state(1)
    assert (refresh.mode, refresh.state, refresh.version) == (LIVE, WAITING, "p1-v1")
    assert (refresh.checked, refresh.being_edited, refresh.lease, refresh.heartbeat_at) == (9, 0, 1, None)


def test_its_champion_serves_and_retrains_and_is_served_again_after_a_rollback(
    settings: Settings, store: Store
) -> None:
    registry, champions = Registry(store), Champions("cpu")

    def said() -> tuple[str, list[str]]:
        champion = registry.champion(1)
        assert champion is not None
        champions.serve(1, champion.name, champion.checkpoint)
        model = champions.model(champion.name)
        return champion.name, [each.text for each in model.caption_pixels([model.read(image) for image in IMAGES])]

    before = ("p1-v1", list(EXPECTED["captions"].values()))
    assert said() == before
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested is not None
    jobs.retrain(requested.id)
    retrain = store.retrains(1)[0]
    assert (retrain.state, retrain.version) == (DONE, "p1-v3"), retrain.outcome
    assert registry.get("p1-v3").parent == "p1-v1"
    assert said()[0] == "p1-v3", retrain.outcome
    registry.rollback(1)
    assert said() == before


def test_its_settings_are_read_but_for_one_that_left() -> None:
    environ = dict(line.split("=", 1) for line in (ASSETS / "data-folder" / "settings.env").read_text().split())
    with pytest.raises(SettingsError, match="CAPTIONER_REHEARSAL") as caught:
        Settings.from_env(environ)
    assert len(str(caught.value).splitlines()) <= 2
    del environ["CAPTIONER_REHEARSAL"]
    assert Settings.from_env(environ).replay == 2.0
