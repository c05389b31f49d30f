"""`captioner versions`, `promote`, `rollback` and `quarantine`: what serves, and what has been learnt."""

from __future__ import annotations

from typing import Any

import click

from backend.cli.options import example, registry_of, setting, settings_from
from backend.settings import Settings


@click.group(invoke_without_command=True, epilog=example("captioner versions", "captioner versions show p1-v3"))
@setting("data_dir")
@setting("database_url")
@click.option("--project", type=int, help="Only this project's.")
@click.pass_context
def versions(context: click.Context, project: int | None, **flags: Any) -> None:
    """List model versions: parent, verdict, who serves what."""
    from backend.reports.status import versions_text

    context.obj = settings_from(flags)
    if context.invoked_subcommand is None:
        click.echo(versions_text(context.obj, project))


@versions.command()
@click.argument("version")
@click.pass_obj
def show(settings: Settings, version: str) -> None:
    """Where a version comes from: its pairs, its parents, its verdict."""
    from backend.reports.lineage import shown

    click.echo(shown(registry_of(settings), version))


@click.group(invoke_without_command=True, epilog=example("captioner quarantine", "captioner quarantine release p1-v3"))
@setting("data_dir")
@setting("database_url")
@click.option("--project", type=int, help="Only this project's.")
@click.pass_context
def quarantine(context: click.Context, project: int | None, **flags: Any) -> None:
    """List what rejected versions had learnt: it is trained on again only when released."""
    from backend.reports.lineage import quarantine as listed

    context.obj = registry_of(settings_from(flags))
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


@click.command(
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
    registry = registry_of(settings_from(flags))
    target = 0 if as_default else registry.get(version).project_id if project is None else project
    if target is None:
        raise click.UsageError(f"{version} belongs to no project: give --project N or --default.")
    registry.promote(target, version, reason=reason, by="operator")
    click.echo(
        f"{version} is now the champion of {'every project without its own' if not target else f'project {target}'}."
    )


@click.command(epilog=example("captioner rollback --project 1"))
@setting("data_dir")
@setting("database_url")
@click.option("--project", type=int, required=True, help="0 for the default champion.")
def rollback(project: int, **flags: Any) -> None:
    """Serve the champion before this one again."""
    champion = registry_of(settings_from(flags)).rollback(project)
    click.echo(
        f"{champion} is the champion of project {project} again."
        if champion
        else f"Project {project} has no champion now."
    )
