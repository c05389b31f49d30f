"""Every setting, from flags and environment, checked together. The only module that reads environment variables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.domain.errors import SettingsError
from backend.settings import values as are
from backend.settings.tokens import Tokens

LEFT = {
    "CAPTIONER_REHEARSAL": "it left, because a retrain replays human captions only; unset it",
}
"""Variables of earlier releases: what became of each."""

MLFLOW = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Variables of MLflow that are set where the user has not."""


def _setting(default: Any, meaning: str, variable: str | None = None, secret: bool = False) -> Any:
    """A field read from `variable` (default: CAPTIONER_ and its name). A secret one is in no message and no log."""
    return Field(default, alias=variable, description=meaning, repr=not secret)


class Settings(BaseModel):
    """Checked settings. Build with `from_env`; an empty text is the default, paths are absolute. A secret may lie in
    the file that its variable with `_FILE` names.

    pydantic-settings is not used: it reads no environment but the process's own, and takes longer to import than all
    else that `captioner --help` imports.
    """

    model_config = ConfigDict(
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        alias_generator=lambda name: f"CAPTIONER_{name}".upper(),
    )

    data_dir: are.Folder = _setting("./data", "the one folder that holds all state")
    host: str = _setting("127.0.0.1", "address the ML backend listens on")
    port: are.Port = _setting(9090, "port the ML backend listens on")
    label_studio_url: are.Url | None = _setting(
        None, "where Label Studio is, as this machine reaches it", "LABEL_STUDIO_URL"
    )
    label_studio_api_key: are.ApiKey | None = _setting(
        None, "personal access token or legacy token", "LABEL_STUDIO_API_KEY", secret=True
    )
    basic_auth_user: are.User | None = _setting(
        None, "user name that every request but /health and /ready must give", "BASIC_AUTH_USER"
    )
    basic_auth_pass: are.Password | None = _setting(None, "its password", "BASIC_AUTH_PASS", secret=True)
    tokens_file: are.File | None = _setting(
        None, "file with the SHA-256 of tokens that machines may give in place of the password"
    )
    without_password: Literal["off", "on"] = _setting(
        "off", "`on`: listens beyond this machine without asking for a password or token"
    )
    redis_url: are.RedisUrl | None = _setting(
        None, "Redis for the queue; empty: the embedded one in the data folder", "REDIS_URL", secret=True
    )
    database_url: are.DatabaseUrl = Field(
        default_factory=lambda known: f"sqlite:///{known['data_dir'] / 'captioner.db'}",
        alias="DATABASE_URL",
        description="any SQLAlchemy URL; empty: SQLite in the data folder",
        repr=False,
    )
    device: are.Device = _setting(
        "auto", "`auto` (CUDA when there), `cpu`, `cuda`, `cuda:N`, or GPUs for retrains: `cuda:0,cuda:1`"
    )
    image_hosts: are.Hosts = _setting(
        "", "private or loopback hosts images may come from: `host` or `host:port`, commas"
    )
    retrain_every: are.Count = _setting(
        50, "most new corrections until a project retrains; 0: only Start Training begins it"
    )
    accepted_weight: are.Share = _setting(0.5, "what a draft accepted unchanged counts for in training, from 0 to 1")
    deleted_tasks: Literal["forget", "keep"] = _setting(
        "forget", "captions of tasks deleted in Label Studio: `forget`, or `keep` for training"
    )
    reconcile_seconds: are.Whole = _setting(600, "seconds between comparisons of changed tasks with Label Studio")
    sweep_seconds: are.Whole = _setting(
        3600, "seconds between comparisons of every task; one also precedes each retrain"
    )
    promotion: Literal["auto", "manual"] = _setting("auto", "`auto`: the gate promotes; `manual`: an operator does")
    gate_policy: Literal["margin", "improvement"] = _setting(
        "margin", "`margin`: surely not worse by more than it; `improvement`: surely better"
    )
    gate_margin: are.Number = _setting(1.0, "BLEU-4 points a candidate may fall short by")
    protect_base: Literal["off", "on"] = _setting(
        "off", "`on`: the gate also rejects a candidate that forgets what the base knew"
    )
    gate_floor: are.Number = _setting(5.0, "BLEU-4 that a first model without the starter must reach")
    blind_share: are.Share = _setting(
        0.05, "share of new images whose tasks show no draft; the gate evaluates on their captions"
    )
    reuse: Literal["on", "off"] = _setting(
        "on", "`on`: near duplicates of a corrected image are drafted with its correction; `off`"
    )
    withhold_below: are.Share = _setting(
        0.0, "drafts with a lower chance to be accepted are not shown: the text box is empty; 0: all are shown"
    )
    replay: are.Number = _setting(1.0, "known pairs that a retrain replays at least for each new one")
    encoder: str = _setting("tf_efficientnet_lite2", "encoder of a first model without the starter")
    encoder_weights: str = _setting(
        "imagenet", "`imagenet` (installed for the default encoder, else downloaded), a file, or `none`"
    )
    images_url: are.ImagesUrl | None = _setting(
        None, "where machines share images, checkpoints and snapshots: any fsspec URL; empty: the data folder"
    )
    images_gb: are.Gigabytes = _setting(20.0, "size limit of the images in the data folder, in GB")
    features_gb: are.Gigabytes = _setting(20.0, "size limit of the encoder outputs in the data folder, in GB")
    refresh_per_minute: are.Whole = _setting(600, "drafts replaced per minute after a promotion or rollback")
    web_workers: are.Whole = _setting(1, "web processes; each holds its own copy of the champion")
    mlflow_tracking_uri: str | None = _setting(
        None, "MLflow's tracking server, where retrains are recorded; empty: none", "MLFLOW_TRACKING_URI", secret=True
    )
    mlflow_experiment_name: str = _setting("captioner", "the experiment there", "MLFLOW_EXPERIMENT_NAME")
    log_format: Literal["text", "json"] = _setting(
        "text", "what processes log: `text` for people, or `json`: one object a line"
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
        """Settings from flags (None means not given), else the environment, else defaults.

        Raises SettingsError naming every mistake at once.
        """
        given = {name: text.strip() for name, text in (os.environ if environ is None else environ).items()}
        given |= {variable(name): str(value) for name, value in flags.items() if value is not None}
        given = {name: text for name, text in given.items() if text}
        mistakes = [*_unknown(given), *_read_files(given)]
        if ("BASIC_AUTH_USER" in given) != bool(given.keys() & {"BASIC_AUTH_PASS", "BASIC_AUTH_PASS_FILE"}):
            mistakes.append("BASIC_AUTH_USER and BASIC_AUTH_PASS must be set together")
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            secrets = {field.alias for field in cls.model_fields.values() if not field.repr}
            for each in error.errors():
                if each["type"] == "default_factory_not_called":
                    continue  # a default that depends on a setting which is wrong itself
                name, reason = str(each["loc"][0]), each["msg"].removeprefix("Value error, ")
                mistakes.append(f"{name}: {reason}" if name in secrets else f"{name}={each['input']!r}: {reason}")
        if mistakes:
            raise SettingsError("Settings are wrong: " + "; ".join(mistakes) + ".")
        return settings

    @property
    def basic_auth(self) -> tuple[str, str] | None:
        """User name and password asked of Label Studio, or None."""
        if self.basic_auth_user is None or self.basic_auth_pass is None:
            return None
        return self.basic_auth_user, self.basic_auth_pass

    def check_access(self) -> None:
        """For what listens: raises SettingsError where the tokens cannot be read, or where other machines would be let
        in unasked."""
        from backend.system import ports  # imports requests, which most commands do without

        if self.tokens_file:
            Tokens(self.tokens_file)
        elif not (self.basic_auth or self.without_password != "off" or ports.is_loopback(self.host)):  # noqa: S105
            raise SettingsError(
                f"The ML backend would listen on {self.host}, where other machines reach it, and ask for no password: "
                f"set BASIC_AUTH_USER and BASIC_AUTH_PASS, or CAPTIONER_WITHOUT_PASSWORD=on to let everybody in."
            )

    def check_data(self) -> None:
        """Raises SettingsError where the database would be a file in the data folder and is not there."""
        file = self.data_dir / "captioner.db"
        if self.database_url == f"sqlite:///{file}" and not file.exists():
            raise SettingsError(
                f"There is no data in {self.data_dir}: name the folder of your captioner with --data-dir, or begin "
                f"with `captioner up` or `captioner connect`."
            )

    @property
    def secrets(self) -> list[str]:
        """What no log may show: keys, passwords, and those within addresses."""
        given = [str(value) for name, value in self if value and not type(self).model_fields[name].repr]
        passwords = [are.password_in(each) for each in given if "://" in each]
        keys = [each for each in given if "://" not in each]
        return [*keys, *(form for each in passwords if each for form in (each, unquote(each)))]

    @property
    def backend_url(self) -> str:
        """The ML backend's address from this machine."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - it binds nothing
        return f"http://{host}:{self.port}"

    def to_env(self) -> dict[str, str]:
        """The same settings as environment variables, for child processes."""
        environ = {}
        for name, value in self:
            text = ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
            environ[variable(name)] = text
        return environ


def variable(name: str) -> str:
    """The environment variable of a setting. Raises KeyError when there is no such setting."""
    return str(Settings.model_fields[name].alias)


def _read_files(given: dict[str, str]) -> Iterator[str]:
    """Fills in secrets whose NAME_FILE is given and NAME is not; a sentence for every file that cannot be read."""
    for field in Settings.model_fields.values():
        file = given.get(f"{field.alias}_FILE")
        if field.repr or not file or field.alias in given:
            continue
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            yield f"{field.alias}_FILE={file!r} cannot be read: {reason}"
            continue
        if text:
            given[str(field.alias)] = text
        else:
            yield f"{field.alias}_FILE={file!r} is empty"


def mlflow_defaults() -> None:
    """Before MLflow is imported: no retries over minutes, no usage data to its makers. Its own variables override."""
    for name, value in MLFLOW.items():
        os.environ.setdefault(name, value)


def _unknown(given: Mapping[str, str]) -> Iterator[str]:
    """A sentence for every variable that looks like one of ours and is none."""
    known = [variable(name) for name in Settings.model_fields]
    for name in given:
        if name in LEFT:
            yield f"{name}: {LEFT[name]}"
        elif name.startswith("CAPTIONER_") and not name.startswith("CAPTIONER_TEST") and name not in known:
            close = get_close_matches(name, known, n=1)
            yield f"{name}: there is no such setting" + (f"; did you mean {close[0]}?" if close else "")


def loopback_without_proxy() -> None:
    """Let nothing on this machine be asked for through a proxy of the environment, here and in child processes."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if known.strip() == "*":
        return
    hosts = dict.fromkeys([*(part.strip() for part in known.split(",") if part.strip()), "127.0.0.1", "localhost"])
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)
