"""`captioner versions`, `promote`, `rollback` and `quarantine`: model versions, and which of them serve."""

from __future__ import annotations

from typing import Any

import click

from backend.cli.options import example, registry_of, setting, settings_from
from backend.system.typed import typed

Flags = dict[str, Any]


@click.group(invoke_without_command=True, epilog=example("captioner versions", "captioner versions show p1-v3"))
@setting("data_dir", "database_url")
@click.option("--project", type=int, help="Only versions of this project.")
@click.pass_context
def versions(context: click.Context, project: int | None, **flags: Any) -> None:
    """List model versions with parent, verdict and the projects they serve."""
    from backend.reports.status import versions_text

    context.obj = flags
    if context.invoked_subcommand is None:
        click.echo(versions_text(_registry(flags), project))


@versions.command()
@setting("data_dir", "database_url")
@click.argument("version")
@click.pass_obj
def show(before: Flags, version: str, **flags: Any) -> None:
    """Show where a version comes from: its training captions, its parents, its verdict."""
    from backend.reports.lineage import shown

    click.echo(shown(_registry(before, flags), version))


@click.group(invoke_without_command=True, epilog=example("captioner quarantine", "captioner quarantine release p1-v3"))
@setting("data_dir", "database_url")
@click.option("--project", type=int, help="Only versions of this project.")
@click.pass_context
def quarantine(context: click.Context, project: int | None, **flags: Any) -> None:
    """List the corrections that rejected versions had learnt; retrains leave them out until they are released."""
    from backend.reports.lineage import quarantine as listed

    context.obj = flags
    if context.invoked_subcommand is None:
        click.echo(listed(_registry(flags), project))


@quarantine.command()
@setting("data_dir", "database_url")
@click.argument("version")
@click.pass_obj
def release(before: Flags, version: str, **flags: Any) -> None:
    """Let the next retrain learn these corrections again."""
    _registry(before, flags).decide(version, "released")
    click.echo(f"The next retrain learns the corrections of {version} again.")


@quarantine.command()
@setting("data_dir", "database_url")
@click.argument("version")
@click.pass_obj
def drop(before: Flags, version: str, **flags: Any) -> None:
    """Never learn these corrections; one that is saved again in Label Studio counts as new."""
    _registry(before, flags).decide(version, "dropped")
    click.echo(f"The corrections of {version} are never learnt.")


@click.command(
    epilog=example("captioner promote p1-v3 --reason 'better on night photos'", "captioner promote p1-v3 --default")
)
@setting("data_dir", "database_url")
@click.argument("version")
@click.option("--project", type=int, help="The project to serve [default: the one it was trained for].")
@click.option("--default", "as_default", is_flag=True, help="Serve every project that has no champion of its own.")
@click.option("--reason", default="by an operator", show_default=True)
def promote(version: str, project: int | None, as_default: bool, reason: str, **flags: Any) -> None:
    """Make a model version the champion of a project, whatever the gate decided."""
    registry = registry_of(settings_from(flags))
    target = 0 if as_default else registry.get(version).project_id if project is None else project
    if target is None:
        raise click.UsageError(f"{version} belongs to no project: give --project N or --default.")
    registry.promote(target, version, reason=reason, by="operator")
    click.echo(
        f"{version} is now the champion of {f'project {target}' if target else 'every project without one of its own'}."
    )


@click.command(epilog=example("captioner rollback --project 1"))
@setting("data_dir", "database_url")
@click.option("--project", type=int, required=True, help="0 for the default champion.")
@click.option("--yes", is_flag=True, help="Do not ask where nothing would serve any more.")
def rollback(project: int, yes: bool, **flags: Any) -> None:
    """Serve the previous champion again."""
    settings = settings_from(flags)
    registry = registry_of(settings)
    whom = f"project {project}" if project else "projects without a champion of their own"
    champion, before = registry.before(project)
    if before is None and not yes:
        click.echo(f"Nothing served {whom} before {champion}: without it, tasks open with empty text boxes.")
        if not click.confirm("Roll back all the same?"):
            raise click.ClickException("Nothing was changed; --yes rolls back without this question.")
    serving = registry.rollback(project, of=champion)
    click.echo(f"{serving} serves {whom} again." if serving else f"Nothing serves {whom} now.")
    back = ["--project", str(project)] if project else ["--default"]
    click.echo(f"`{typed(settings.data_dir, 'promote', champion, *back)}` lets {champion} serve again.")


def _registry(*given: Flags) -> Any:
    """The registry that the flags name; those of a group may stand before or after the name of its subcommand."""
    return registry_of(settings_from({name: value for flags in given for name, value in flags.items() if value}))
