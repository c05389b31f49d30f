"""The console command `captioner`. What a command does not need is not imported by it: torch takes seconds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from backend.errors import CaptionerError, LabelStudioError
from backend.settings import SETTINGS, Settings, loopback_without_proxy
from training.cli import commands as training_commands
from training.errors import TrainingError


class PlainErrors(click.Group):
    """Shows our own errors as one line and a non-zero exit, never as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (CaptionerError, TrainingError) as error:
            raise click.ClickException(str(error)) from error


def setting(name: str) -> Any:
    """A flag for one setting; the environment variable and default stand in its help."""
    row = SETTINGS[name]
    flag = "--api-key" if name == "label_studio_api_key" else "--" + name.replace("_", "-")
    text = f"{row.meaning} [{row.variable}{f'; default {row.default}' if row.default else ''}]"
    return click.option(flag, name, default=None, metavar="TEXT", help=text)


def settings_of(command: str) -> Any:
    """A flag for every setting the command, or what it starts, makes use of."""

    def flags(function: Any) -> Any:
        for name in reversed(SETTINGS):
            if name not in _UNUSED.get(command, ()):
                function = setting(name)(function)
        return function

    return flags


_UNUSED = {
    "serve": {"promotion", "gate_margin", "gate_floor", "encoder", "encoder_weights", "accepted_weight"}
    | {"deleted_tasks", "sweep_seconds"},
    "worker": {"host", "port", "basic_auth_user", "basic_auth_pass", "web_workers", "reconcile_seconds"},
}


def example(*lines: str) -> str:
    """The closing lines of a command's help."""
    return "Example:\n\n" + "\n\n".join(f"  {line}" for line in lines)


@click.group(cls=PlainErrors, context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="label-studio-captioner")
def main() -> None:
    """Draft image captions in Label Studio, learn from every correction, serve what the gate lets through."""
    loopback_without_proxy()


for _command in training_commands:
    main.add_command(_command)


@main.command(epilog=example("captioner up --images ~/photos --label-studio-port 8081"))
@settings_of("up")
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of photos to import (default: generated scenes)."
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Serve this captioner of yours from the start.")
@click.option("--label-studio-port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--scenes", default=100, show_default=True, help="Generated scenes imported when there are no photos.")
@click.option("--no-label-studio", is_flag=True, help="Backend, worker and Redis only; then `captioner connect`.")
def up(
    images: Path | None,
    checkpoint: Path | None,
    label_studio_port: int,
    scenes: int,
    no_label_studio: bool,
    **flags: Any,
) -> None:
    """Run the whole loop on this machine: Redis, worker, ML backend and Label Studio. Ctrl-C stops everything."""
    from backend.up.up import Up

    if no_label_studio and images:
        raise click.UsageError("--images needs the Label Studio that --no-label-studio leaves out.")
    up = Up(Settings.from_env(**flags), images, checkpoint, None if no_label_studio else label_studio_port, scenes)
    sys.exit(up.run())


@main.command(epilog=example("captioner serve --port 9090"))
@settings_of("serve")
def serve(**flags: Any) -> None:
    """Run the ML backend alone (gunicorn)."""
    from backend.server import serve as run

    run(_settings(flags))


@main.command(epilog=example("captioner worker", "captioner worker --burst"))
@settings_of("worker")
@click.option("--burst", is_flag=True, help="Stop when the queue is empty.")
def worker(burst: bool, **flags: Any) -> None:
    """Run the RQ worker that retrains."""
    from backend.queue import Queue

    settings = _settings(flags)
    queue = Queue(settings.redis_url)
    queue.ping()  # or RQ's own words would stand where one clear line should
    os.environ.update(settings.to_env())  # the work-horse reads its settings from the environment
    queue.work(burst=burst)


@main.command(epilog=example("captioner connect --label-studio-url http://localhost:8080 --project 3 --api-key $TOKEN"))
@setting("data_dir")
@setting("label_studio_url")
@setting("label_studio_api_key")
@click.option("--project", type=int, required=True, help="The number in the project's address.")
@click.option("--backend-url", help="The ML backend's address as Label Studio reaches it [http://HOST:PORT].")
def connect(project: int, backend_url: str | None, **flags: Any) -> None:
    """Connect a Label Studio project to a running ML backend and take in the captions it already has."""
    from backend.label_studio.client import LabelStudio
    from backend.label_studio.connect import connect as connect_project
    from backend.reconcile import reconcile as compare

    settings = _settings(flags)
    if not settings.label_studio_url or not settings.label_studio_api_key:
        raise click.UsageError("Give --label-studio-url and --api-key (or LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY).")
    client = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
    connection = connect_project(client, project, backend_url or settings.backend_url, settings.basic_auth)
    for sentence in connection.report:
        click.echo(sentence)
    click.echo(str(compare(project, client, _store(settings))))
    if not connection.complete:
        raise LabelStudioError(" ".join(connection.problems))


@main.command(epilog=example("captioner reconcile", "captioner reconcile --project 3"))
@setting("data_dir")
@setting("database_url")
@setting("label_studio_url")
@setting("label_studio_api_key")
@click.option("--project", type=int, help="Only this project [every one that is connected].")
def reconcile(project: int | None, **flags: Any) -> None:
    """Take in what Label Studio has and its webhooks did not tell of; every task is looked at."""
    from backend.label_studio.client import LabelStudio
    from backend.reconcile import reconcile as compare

    settings = _settings(flags)
    if not settings.label_studio_url or not settings.label_studio_api_key:
        raise click.UsageError("Give --label-studio-url and --api-key (or LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY).")
    client = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
    store = _store(settings)
    projects = [each.id for each in store.projects()] if project is None else [project]
    if not projects:
        click.echo("No project has been connected yet: `captioner up` or `captioner connect`.")
    for each in projects:
        click.echo(str(compare(each, client, store)))


@main.command(epilog=example("captioner status", "captioner status --json"))
@setting("data_dir")
@setting("database_url")
@setting("redis_url")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool, **flags: Any) -> None:
    """What is served, what has been learnt, what is being trained, and what went wrong lately."""
    from backend.status import report, text

    settings = _settings(flags)
    found = report(settings)
    click.echo(json.dumps(found, indent=2, default=str) if as_json else text(found))


@main.group(invoke_without_command=True, epilog=example("captioner versions", "captioner versions show p1-v3"))
@setting("data_dir")
@setting("database_url")
@click.option("--project", type=int, help="Only this project's.")
@click.pass_context
def versions(context: click.Context, project: int | None, **flags: Any) -> None:
    """List model versions: parent, verdict, who serves what."""
    from backend.status import versions_text

    context.obj = _settings(flags)
    if context.invoked_subcommand is None:
        click.echo(versions_text(context.obj, project))


@versions.command()
@click.argument("version")
@click.pass_obj
def show(settings: Settings, version: str) -> None:
    """Where a version comes from: its pairs, its parents, its verdict."""
    from backend.lineage import shown

    click.echo(shown(_registry(settings), version))


@main.group(invoke_without_command=True, epilog=example("captioner quarantine", "captioner quarantine release p1-v3"))
@setting("data_dir")
@setting("database_url")
@click.option("--project", type=int, help="Only this project's.")
@click.pass_context
def quarantine(context: click.Context, project: int | None, **flags: Any) -> None:
    """List what rejected versions had learnt: it is trained on again only when released."""
    from backend.lineage import quarantine as listed

    context.obj = _registry(_settings(flags))
    if context.invoked_subcommand is None:
        click.echo(listed(context.obj, project))


@quarantine.command()
@click.argument("version")
@click.pass_obj
def release(registry: Any, version: str) -> None:
    """Let the next retrain learn it again."""
    registry.decide(version, "released")
    click.echo(f"What {version} had learnt is part of the next retrain.")


@quarantine.command()
@click.argument("version")
@click.pass_obj
def drop(registry: Any, version: str) -> None:
    """Never learn it; a correction that is saved anew counts again."""
    registry.decide(version, "dropped")
    click.echo(f"What {version} had learnt is never trained on.")


@main.command(
    epilog=example("captioner promote p1-v3 --reason 'better on night photos'", "captioner promote p1-v3 --default")
)
@setting("data_dir")
@setting("database_url")
@click.argument("version")
@click.option("--project", type=int, help="The project it shall serve [the one it was trained for].")
@click.option("--default", "as_default", is_flag=True, help="Serve every project that has no champion of its own.")
@click.option("--reason", default="by an operator", show_default=True)
def promote(version: str, project: int | None, as_default: bool, reason: str, **flags: Any) -> None:
    """Make a model version the champion of a project, whatever the gate said."""
    registry = _registry(_settings(flags))
    target = 0 if as_default else registry.get(version).project_id if project is None else project
    if target is None:
        raise click.UsageError(f"{version} belongs to no project: give --project N or --default.")
    registry.promote(target, version, reason=reason, by="operator")
    click.echo(
        f"{version} is now the champion of {'every project without its own' if not target else f'project {target}'}."
    )


@main.command(epilog=example("captioner rollback --project 1"))
@setting("data_dir")
@setting("database_url")
@click.option("--project", type=int, required=True, help="0 for the default champion.")
def rollback(project: int, **flags: Any) -> None:
    """Serve the champion before this one again."""
    champion = _registry(_settings(flags)).rollback(project)
    click.echo(
        f"{champion} is the champion of project {project} again."
        if champion
        else f"Project {project} has no champion now."
    )


def _settings(flags: dict[str, Any]) -> Settings:
    """Settings as given; what is not given is as the `captioner up` has it that runs over the same data folder."""
    from backend.up import embedded_redis
    from backend.up.state import running

    data_dir = Settings.from_env(**flags).data_dir
    state = running(data_dir)
    base = state["settings"] if state else {"REDIS_URL": embedded_redis.url(data_dir) or "redis://127.0.0.1:6379/0"}
    return Settings.from_env({**base, **{name: value for name, value in os.environ.items() if value}}, **flags)


def _registry(settings: Settings) -> Any:
    from backend.registry import Registry

    return Registry(_store(settings))


def _store(settings: Settings) -> Any:
    from backend.store import Store

    store = Store(settings.database_url)
    store.migrate()
    return store


if __name__ == "__main__":
    main()
