"""Every setting, from flags and environment, checked together. The only module that reads environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from backend.domain.errors import SettingsError
from backend.settings import values as parse


@dataclass(frozen=True)
class Setting:
    """One row of the README's table."""

    variable: str
    default: str
    meaning: str


SETTINGS: dict[str, Setting] = {
    "data_dir": Setting("CAPTIONER_DATA_DIR", "./data", "the one folder that holds all state"),
    "host": Setting("CAPTIONER_HOST", "127.0.0.1", "address the ML backend listens on"),
    "port": Setting("CAPTIONER_PORT", "9090", "port the ML backend listens on"),
    "label_studio_url": Setting("LABEL_STUDIO_URL", "", "where Label Studio is, as this machine reaches it"),
    "label_studio_api_key": Setting("LABEL_STUDIO_API_KEY", "", "personal access token or legacy token"),
    "basic_auth_user": Setting("BASIC_AUTH_USER", "", "user name asked of Label Studio on everything but /health"),
    "basic_auth_pass": Setting("BASIC_AUTH_PASS", "", "its password"),
    "redis_url": Setting("REDIS_URL", "", "Redis for the queue; empty: the embedded one in the data folder"),
    "database_url": Setting("DATABASE_URL", "", "any SQLAlchemy URL; empty: SQLite in the data folder"),
    "device": Setting("CAPTIONER_DEVICE", "auto", "`auto` (CUDA when there), `cpu`, `cuda` or `cuda:N`"),
    "image_hosts": Setting(
        "CAPTIONER_IMAGE_HOSTS", "", "private or loopback hosts images may come from: `host` or `host:port`, commas"
    ),
    "retrain_every": Setting("CAPTIONER_RETRAIN_EVERY", "50", "new corrections that start a retrain of a project"),
    "accepted_weight": Setting(
        "CAPTIONER_ACCEPTED_WEIGHT", "0.5", "what a draft accepted unchanged counts for in training, from 0 to 1"
    ),
    "deleted_tasks": Setting(
        "CAPTIONER_DELETED_TASKS",
        "forget",
        "captions of tasks deleted in Label Studio: `forget`, or `keep` for training",
    ),
    "reconcile_seconds": Setting(
        "CAPTIONER_RECONCILE_SECONDS", "600", "time between comparisons with Label Studio, by what changed there"
    ),
    "sweep_seconds": Setting(
        "CAPTIONER_SWEEP_SECONDS", "3600", "time between those that look at every task, as before every retrain"
    ),
    "promotion": Setting("CAPTIONER_PROMOTION", "auto", "`auto`: the gate promotes; `manual`: an operator does"),
    "gate_policy": Setting(
        "CAPTIONER_GATE_POLICY", "margin", "`margin`: surely not worse by more than that; `improvement`: surely better"
    ),
    "gate_margin": Setting("CAPTIONER_GATE_MARGIN", "1.0", "BLEU-4 points a candidate may fall short by"),
    "gate_floor": Setting("CAPTIONER_GATE_FLOOR", "5.0", "BLEU-4 a project's first model must reach"),
    "blind_share": Setting(
        "CAPTIONER_BLIND_SHARE", "0.05", "share of images whose tasks show no draft: their captions judge models"
    ),
    "replay": Setting("CAPTIONER_REPLAY", "1.0", "known pairs a retrain goes through again for each new one"),
    "rehearsal": Setting(
        "CAPTIONER_REHEARSAL", "own", "words in which a retrain goes through the base: the champion's `own`, or `human`"
    ),
    "encoder": Setting("CAPTIONER_ENCODER", "mobilenet_v2", "encoder of a project's first model"),
    "encoder_weights": Setting(
        "CAPTIONER_ENCODER_WEIGHTS", "imagenet", "`imagenet` (torchvision's download), a file, or `none`"
    ),
    "images_url": Setting(
        "CAPTIONER_IMAGES_URL", "", "where images that were trained on are kept: any fsspec URL; empty: the data folder"
    ),
    "refresh_per_minute": Setting(
        "CAPTIONER_REFRESH_PER_MINUTE", "600", "tasks whose drafts are made anew a minute after a promotion or rollback"
    ),
    "web_workers": Setting("CAPTIONER_WEB_WORKERS", "1", "web processes; each holds its own copy of the champion"),
}


Policy = Literal["margin", "improvement"]


@dataclass(frozen=True)
class Settings:
    """Checked settings. Build with `from_env`; paths are absolute, empty strings have become None."""

    data_dir: Path
    host: str
    port: int
    label_studio_url: str | None
    label_studio_api_key: str | None
    basic_auth_user: str | None
    basic_auth_pass: str | None
    redis_url: str | None
    database_url: str
    device: str
    image_hosts: tuple[str, ...]
    retrain_every: int
    accepted_weight: float
    deleted_tasks: str
    reconcile_seconds: int
    sweep_seconds: int
    promotion: str
    gate_policy: Policy
    gate_margin: float
    gate_floor: float
    blind_share: float
    replay: float
    rehearsal: str
    encoder: str
    encoder_weights: str
    images_url: str | None
    refresh_per_minute: int
    web_workers: int

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
        """Settings from flags (None means not given), else the environment, else defaults.

        Raises SettingsError naming every mistake at once.
        """
        environ = os.environ if environ is None else environ
        unknown = set(flags) - set(SETTINGS)
        if unknown:
            raise SettingsError(f"Unknown settings: {', '.join(sorted(unknown))}.")
        mistakes: list[str] = []
        values: dict[str, Any] = {}
        for name, setting in SETTINGS.items():
            flag = flags.get(name)
            text = str(flag) if flag is not None else environ.get(setting.variable, "").strip() or setting.default
            try:
                values[name] = _PARSERS.get(name, parse.text)(text)
            except ValueError as error:
                mistakes.append(f"{setting.variable}={text!r}: {error}")
        if (values.get("basic_auth_user") is None) != (values.get("basic_auth_pass") is None):
            mistakes.append("BASIC_AUTH_USER and BASIC_AUTH_PASS must be set together")
        credentials = (values.get("basic_auth_user") or "", values.get("basic_auth_pass") or "")
        if not "".join(credentials).isascii() or ":" in credentials[0]:
            # Label Studio sends other characters as Latin-1, servers read them as UTF-8
            mistakes.append("BASIC_AUTH_USER and BASIC_AUTH_PASS must be plain ASCII, the user without a colon")
        if not re.fullmatch("[!-~]*", values.get("label_studio_api_key") or ""):
            mistakes.append("LABEL_STUDIO_API_KEY must be plain ASCII without blanks, as Label Studio shows it")
        if mistakes:
            raise SettingsError("Settings are wrong: " + "; ".join(mistakes) + ".")
        if values["database_url"] is None:
            values["database_url"] = f"sqlite:///{values['data_dir'] / 'captioner.db'}"
        return cls(**values)

    @property
    def basic_auth(self) -> tuple[str, str] | None:
        """User name and password asked of Label Studio, or None."""
        if self.basic_auth_user is None or self.basic_auth_pass is None:
            return None
        return self.basic_auth_user, self.basic_auth_pass

    @property
    def backend_url(self) -> str:
        """The ML backend's address from this machine."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host
        return f"http://{host}:{self.port}"

    def to_env(self) -> dict[str, str]:
        """The same settings as environment variables, for child processes."""
        environ = {}
        for field in fields(self):
            value = getattr(self, field.name)
            text = ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
            environ[SETTINGS[field.name].variable] = text
        return environ


def loopback_without_proxy() -> None:
    """Let nothing on this machine be asked for through a proxy of the environment, here and in child processes."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if known.strip() == "*":
        return
    hosts = dict.fromkeys([*(part.strip() for part in known.split(",") if part.strip()), "127.0.0.1", "localhost"])
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "data_dir": parse.path,
    "host": str,
    "port": parse.port,
    "label_studio_url": parse.url,
    "redis_url": parse.redis_url,
    "database_url": parse.database_url,
    "device": parse.device,
    "image_hosts": parse.hosts,
    "retrain_every": parse.whole,
    "accepted_weight": parse.share,
    "deleted_tasks": parse.deleted_tasks,
    "reconcile_seconds": parse.whole,
    "sweep_seconds": parse.whole,
    "promotion": parse.promotion,
    "gate_policy": parse.policy,
    "gate_margin": parse.number,
    "gate_floor": parse.number,
    "blind_share": parse.share,
    "replay": parse.number,
    "rehearsal": parse.rehearsal,
    "encoder": str,
    "encoder_weights": str,
    "images_url": parse.images_url,
    "refresh_per_minute": parse.whole,
    "web_workers": parse.whole,
}
