from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import SettingsError
from backend.settings import SETTINGS, Settings


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_env({})
    assert settings.port == 9090
    assert settings.data_dir == Path.cwd() / "data"
    assert settings.database_url == f"sqlite:///{settings.data_dir}/captioner.db"
    assert settings.basic_auth_user is None


def test_a_flag_wins_over_the_environment() -> None:
    assert Settings.from_env({"CAPTIONER_PORT": "1234"}, port=4321).port == 4321
    assert Settings.from_env({"CAPTIONER_PORT": "1234"}, port=None).port == 1234


def test_every_mistake_is_named_at_once() -> None:
    wrong = {
        "CAPTIONER_PORT": "many",
        "CAPTIONER_DEVICE": "tpu",
        "LABEL_STUDIO_URL": "localhost:8080",
        "REDIS_URL": "localhost:6379",
        "DATABASE_URL": "captions.db",
        "CAPTIONER_IMAGE_HOSTS": "http://nas",
        "CAPTIONER_RETRAIN_EVERY": "0",
        "CAPTIONER_PROMOTION": "perhaps",
        "CAPTIONER_GATE_MARGIN": "-1",
        "BASIC_AUTH_USER": "ann",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(wrong)
    assert [name for name in wrong if name not in str(caught.value)] == []


def test_settings_survive_the_way_to_a_child_process() -> None:
    settings = Settings.from_env({"CAPTIONER_IMAGE_HOSTS": "nas, 10.0.0.2:9000", "LABEL_STUDIO_URL": "http://ls:8080/"})
    assert settings.image_hosts == ("nas", "10.0.0.2:9000")
    assert settings.label_studio_url == "http://ls:8080"
    assert Settings.from_env(settings.to_env()) == settings


@pytest.mark.parametrize("hosts", ["nas", "nas:80", "192.168.0.4", "[::1]:8000", "a.b.example:443,c"])
def test_image_hosts_take_hosts_with_or_without_ports(hosts: str) -> None:
    assert Settings.from_env({"CAPTIONER_IMAGE_HOSTS": hosts}).image_hosts == tuple(hosts.split(","))


def test_the_readme_lists_every_setting() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    missing = [row.variable for row in SETTINGS.values() if f"`{row.variable}`" not in readme]
    assert not missing
