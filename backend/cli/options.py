"""Options that commands share, and the store, registry and client that they open."""

from __future__ import annotations

import os
from typing import Any

import click

from backend.settings import Settings


def setting(*names: str) -> Any:
    """A flag for each of these settings; its help names the environment variable and the default."""

    def flags(function: Any) -> Any:
        for name in reversed(names):
            field = Settings.model_fields[name]
            flag = "--api-key" if name == "label_studio_api_key" else "--" + name.replace("_", "-")
            shown = field.default is not None and field.default != "" and field.default_factory is None
            text = f"{field.description} [{field.alias}{f'; default {field.default}' if shown else ''}]"
            function = click.option(flag, name, metavar="TEXT", help=text)(function)
        return function

    return flags


def settings_of(command: str) -> Any:
    """A flag for every setting that the command or a process it starts uses."""
    return setting(*(name for name in Settings.model_fields if name not in _UNUSED.get(command, ())))


_UNUSED = {
    "serve": {"promotion", "gate_margin", "gate_floor", "protect_base", "encoder", "encoder_weights", "accepted_weight"}
    | {"deleted_tasks", "sweep_seconds", "images_url", "refresh_per_minute"},
    "worker": {"host", "port", "basic_auth_user", "basic_auth_pass", "web_workers", "reconcile_seconds"},
}


def example(*lines: str) -> str:
    """The last lines of a command's help."""
    return "Example:\n\n" + "\n\n".join(f"  {line}" for line in lines)


def settings_from(flags: dict[str, Any]) -> Settings:
    """Settings from flags and environment, else those of the `captioner up` that runs over the same data folder."""
    from backend.system import redis_server
    from backend.up.state import running

    data_dir = Settings.from_env(**flags).data_dir
    state = running(data_dir)
    base = state["settings"] if state else {"REDIS_URL": redis_server.url(data_dir) or "redis://127.0.0.1:6379/0"}
    return Settings.from_env({**base, **{name: value for name, value in os.environ.items() if value}}, **flags)


def label_studio_of(settings: Settings) -> Any:
    """A client of the Label Studio the settings name."""
    from backend.label_studio.client import LabelStudio

    if not settings.label_studio_url or not settings.label_studio_api_key:
        raise click.UsageError("Give --label-studio-url and --api-key (or LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY).")
    return LabelStudio(settings.label_studio_url, settings.label_studio_api_key)


def registry_of(settings: Settings) -> Any:
    from backend.store.registry import Registry

    return Registry(store_of(settings))


def store_of(settings: Settings, new: bool = False) -> Any:
    """The migrated store. Only with `new` is one made in a folder that has none."""
    from backend.store.store import Store

    if not new:
        settings.check_data()
    store = Store(settings.database_url)
    store.migrate()
    return store
