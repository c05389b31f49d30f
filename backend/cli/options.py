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
    | {"deleted_tasks", "sweep_seconds", "refresh_per_minute", "mlflow_experiment_name"},
    "worker": {"host", "port", "basic_auth_user", "basic_auth_pass", "web_workers", "reconcile_seconds"}
    | {"tokens_file", "without_password"},
}


def project_option(text: str = "The number in the project's address.", required: bool = True) -> Any:
    """The option --project; a shell proposes the connected projects."""
    return click.option("--project", type=int, required=required, help=text, shell_complete=_projects)


def version_argument(function: Any) -> Any:
    """The argument VERSION; a shell proposes the model versions."""
    return click.argument("version", shell_complete=_versions)(function)


def _projects(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    return [name for each in _proposed(context, "projects") if (name := str(each.id)).startswith(begun)]


def _versions(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    return [each.name for each in _proposed(context, "versions") if each.name.startswith(begun)]


def _proposed(context: click.Context | None, what: str) -> list[Any]:
    """What the data folder of the typed flags holds; nothing is made or migrated."""
    flags: dict[str, Any] = {}
    while context is not None:
        flags = {
            name: context.params[name] for name in ("data_dir", "database_url") if context.params.get(name)
        } | flags
        context = context.parent
    try:
        from backend.store.registry import Registry
        from backend.store.store import Store

        settings = settings_from(flags)
        settings.check_data()
        store = Store(settings.database_url, settings.data_dir)
        found: list[Any] = store.projects() if what == "projects" else Registry(store).versions()
    except Exception:  # whatever is wrong with the data: an error within the line that is typed helps nobody
        return []
    return found


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
    given = {name: value for name, value in os.environ.items() if value}
    known = {name: value for name, value in base.items() if f"{name}_FILE" not in given}
    return Settings.from_env({**known, **given}, **flags)


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
    store = Store(settings.database_url, settings.data_dir)
    store.migrate()
    return store
