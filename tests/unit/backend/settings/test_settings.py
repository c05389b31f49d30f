from __future__ import annotations

import os
from pathlib import Path

import pytest
import requests

from backend.domain.errors import SettingsError
from backend.settings import Settings, loopback_without_proxy


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_env({})
    assert settings.port == 9090
    assert settings.data_dir == Path.cwd() / "data"
    assert settings.database_url == f"sqlite:///{settings.data_dir}/captioner.db"
    assert settings.basic_auth_user is None


def test_a_flag_wins_over_the_environment() -> None:
    assert Settings.from_env({"CAPTIONER_PORT": "1234"}, port=4321).port == 4321
    assert Settings.from_env({"CAPTIONER_PORT": "1234"}, port=None).port == 1234


def test_a_default_that_depends_on_a_wrong_setting_is_no_mistake_of_its_own() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"CAPTIONER_PORT": "abc"})
    assert "DATABASE_URL" not in str(caught.value).upper()


def test_every_mistake_is_named_at_once() -> None:
    wrong = {
        "CAPTIONER_PORT": "many",
        "CAPTIONER_DEVICE": "tpu",
        "LABEL_STUDIO_URL": "localhost:8080",
        "REDIS_URL": "localhost:6379",
        "DATABASE_URL": "captions.db",
        "CAPTIONER_IMAGE_HOSTS": "http://nas",
        "CAPTIONER_RETRAIN_EVERY": "-1",
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


@pytest.mark.parametrize("device", ["auto", "cpu", "cpu,cpu", "cuda", "cuda:3", "cuda:2,cuda:0"])
def test_a_device_may_be_several(device: str) -> None:
    assert Settings.from_env({"CAPTIONER_DEVICE": device}).device == device


@pytest.mark.parametrize(
    "device", ["cuda:0,cuda:0", "cuda,cuda:1", "cpu,cuda:0", "auto,cpu", "cuda:0,", "cuda:0, cuda:1"]
)
def test_devices_that_cannot_train_together_are_refused(device: str) -> None:
    with pytest.raises(SettingsError, match="several such as `cuda:0,cuda:1`"):
        Settings.from_env({"CAPTIONER_DEVICE": device})


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        ("http://ls:8080/projects/1/data?tab=1", "http://ls:8080"),
        ("http://ls:8080/projects/1/data?tab=1&task=7#x", "http://ls:8080"),
        ("https://ls.example/projects/", "https://ls.example"),
        ("https://ls.example/label/projects/12/settings/ml", "https://ls.example/label"),
        ("https://ls.example/user/login/?next=/projects/3/", "https://ls.example"),
        ("http://ls:8080/?page=2", "http://ls:8080"),
        ("http://ls:8080/home", "http://ls:8080"),
        ("http://[::1]:8080/tasks/5", "http://[::1]:8080"),
        ("https://ls.example/label/", "https://ls.example/label"),
        ("https://ls.example/projects/label-studio", "https://ls.example/projects/label-studio"),
    ],
)
def test_the_address_of_a_page_is_cut_to_label_studios(pasted: str, meant: str) -> None:
    assert Settings.from_env({"LABEL_STUDIO_URL": pasted}).label_studio_url == meant


@pytest.mark.parametrize("url", ["ls:8080/projects/1", "http://", "http://[::1", "http://ls:99999", "http://ls:a"])
def test_what_is_no_address_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(SettingsError, match="an address such as http://localhost:8080 is needed"):
        Settings.from_env({"LABEL_STUDIO_URL": url})


@pytest.mark.parametrize("hosts", ["nas", "nas:80", "192.168.0.4", "[::1]:8000", "a.b.example:443,c"])
def test_image_hosts_take_hosts_with_or_without_ports(hosts: str) -> None:
    assert Settings.from_env({"CAPTIONER_IMAGE_HOSTS": hosts}).image_hosts == tuple(hosts.split(","))


@pytest.mark.parametrize("hosts", ["nas:99999", "nas:0", "[:::]:80", "[::1", "nas,[:::]"])
def test_an_image_host_that_nobody_could_be_is_refused_at_once(hosts: str) -> None:
    with pytest.raises(SettingsError, match="is not `host` or `host:port`"):
        Settings.from_env({"CAPTIONER_IMAGE_HOSTS": hosts})


@pytest.mark.parametrize("key", ["ключ", "a b", "a\nb"])
def test_a_key_that_no_header_takes_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="LABEL_STUDIO_API_KEY: plain ASCII without blanks is needed") as caught:
        Settings.from_env({"LABEL_STUDIO_API_KEY": key})
    assert key not in str(caught.value)


def test_no_message_and_no_log_shows_a_secret() -> None:
    secrets = {
        "LABEL_STUDIO_API_KEY": "secret key",
        "BASIC_AUTH_PASS": "sécret",
        "REDIS_URL": "http://:secret@redis",
        "DATABASE_URL": "secret@host",
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**secrets, "BASIC_AUTH_USER": "ann"})
    assert [name for name in secrets if name not in str(caught.value)] == []
    assert "cret" not in str(caught.value)
    assert "cret" not in repr(
        Settings.from_env({"LABEL_STUDIO_API_KEY": "secret", "REDIS_URL": "redis://:secret@host"})
    )


@pytest.mark.parametrize("port", ["0", "65536", "9e3", "-1", "nan"])
def test_a_number_out_of_its_range_is_refused_with_its_value(port: str) -> None:
    with pytest.raises(SettingsError, match=f"CAPTIONER_PORT='{port}': "):
        Settings.from_env({"CAPTIONER_PORT": port})


def test_a_variable_that_left_or_is_mistyped_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"CAPTIONER_REHEARSAL": "own", "CAPTIONER_PROT": "9090", "CAPTIONER_TEST_DATA": "/data"})
    assert "CAPTIONER_REHEARSAL: it left, because a retrain replays human captions only" in str(caught.value)
    assert "CAPTIONER_PROT: there is no such setting; did you mean CAPTIONER_PORT?" in str(caught.value)
    assert "CAPTIONER_TEST_DATA" not in str(caught.value)


def test_an_empty_variable_is_the_default() -> None:
    assert Settings.from_env({"CAPTIONER_PORT": " ", "LABEL_STUDIO_URL": ""}) == Settings.from_env({})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": ".example.com, localhost"}, ".example.com,localhost,127.0.0.1"),
        ({"no_proxy": "a", "NO_PROXY": "b"}, "a,127.0.0.1,localhost"),
    ],
)
def test_loopback_is_never_asked_for_through_a_proxy(
    before: dict[str, str], after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, before.get(name, ""))
    monkeypatch.setenv("http_proxy", "http://proxy.example.com:3128")
    loopback_without_proxy()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == after
    assert requests.utils.get_environ_proxies("http://127.0.0.1:9090/health") == {}


def test_no_proxy_for_anything_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    loopback_without_proxy()
    assert os.environ["no_proxy"] == "*"


def test_the_documentation_lists_every_setting() -> None:
    page = (Path(__file__).parents[4] / "docs" / "settings.md").read_text()
    missing = [field.alias for field in Settings.model_fields.values() if f"`{field.alias}`" not in page]
    assert not missing
