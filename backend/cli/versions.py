"""`captioner versions`, `promote`, `rollback` and `quarantine`: model versions, and which of them serve."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from backend.cli.options import example, project_option, registry_of, setting, settings_from, version_argument
from backend.system.typed import typed
from training.commands.answers import answer, as_json, json_option

Flags = dict[str, Any]


@click.group(invoke_without_command=True, epilog=example("captioner versions", "captioner versions show p1-v3"))
@setting("data_dir", "database_url")
@project_option("Only versions of this project.", required=False)
@json_option
@click.pass_context
def versions(context: click.Context, project: int | None, **flags: Any) -> None:
    """List model versions, with verdicts and what they serve."""
    from backend.reports.status import versions_of, versions_text

    context.obj = flags
    if context.invoked_subcommand is None:
        found = versions_of(_registry(flags), project)
        answer({"versions": found}, partial(versions_text, found))


@versions.command()
@setting("data_dir", "database_url")
@version_argument
@json_option
@click.pass_obj
def show(before: Flags, version: str, **flags: Any) -> None:
    """Show where a version comes from, back to its first ancestor.

    Its training captions, its parents, its verdict.
    """
    from backend.reports.lineage import lineage, shown

    found = lineage(_registry(before, flags), version)
    answer({"versions": found}, partial(shown, found))


@click.group(invoke_without_command=True, epilog=example("captioner quarantine", "captioner quarantine release p1-v3"))
@setting("data_dir", "database_url")
@project_option("Only versions of this project.", required=False)
@json_option
@click.pass_context
def quarantine(context: click.Context, project: int | None, **flags: Any) -> None:
    """List corrections that made a candidate worse.

    Rejected versions had learned them. Retrains leave them out until they are released.
    """
    from backend.reports.lineage import quarantine as listed
    from backend.reports.lineage import quarantine_text

    context.obj = flags
    if context.invoked_subcommand is None:
        found = listed(_registry(flags), project)
        answer({"versions": found}, partial(quarantine_text, found))


@quarantine.command()
@setting("data_dir", "database_url")
@version_argument
@json_option
@click.pass_obj
def release(before: Flags, version: str, **flags: Any) -> None:
    """Let the next retrain learn these corrections again."""
    _registry(before, flags).decide(version, "released")
    answer({"version": version, "state": "released"}, f"The next retrain learns the corrections of {version} again.")


@quarantine.command()
@setting("data_dir", "database_url")
@version_argument
@json_option
@click.pass_obj
def drop(before: Flags, version: str, **flags: Any) -> None:
    """Never learn these corrections.

    One that is saved again in Label Studio counts as new.
    """
    _registry(before, flags).decide(version, "dropped")
    answer({"version": version, "state": "dropped"}, f"The corrections of {version} are never learned.")


@click.command(
    epilog=example("captioner promote p1-v3 --reason 'better on night photos'", "captioner promote p1-v3 --default")
)
@setting("data_dir", "database_url")
@version_argument
@project_option("The project to serve [default: the one it was trained for].", required=False)
@click.option("--default", "as_default", is_flag=True, help="Serve every project that has no champion of its own.")
@click.option("--reason", default="by an operator", show_default=True)
@json_option
def promote(version: str, project: int | None, as_default: bool, reason: str, **flags: Any) -> None:
    """Make a model version the champion, whatever the gate decided."""
    from backend.reports.overview import moves

    registry = registry_of(settings_from(flags))
    target = 0 if as_default else registry.get(version).project_id if project is None else project
    if target is None:
        raise click.UsageError(f"{version} belongs to no project: give --project N or --default.")
    registry.promote(target, version, reason=reason, by="operator")
    answer({"project": target, "version": version}, moves.promoted(version, target))


@click.command(epilog=example("captioner rollback --project 1"))
@setting("data_dir", "database_url")
@project_option("0 for the default champion.")
@click.option("--yes", is_flag=True, help="Do not ask where nothing would serve any more.")
@json_option
def rollback(project: int, yes: bool, **flags: Any) -> None:
    """Serve the previous champion again."""
    from backend.reports.overview import moves

    settings = settings_from(flags)
    registry = registry_of(settings)
    champion, before = registry.before(project)
    if before is None and not yes:
        about = moves.nothing_before(champion, project)
        if as_json():
            raise click.ClickException(f"{about} --yes rolls back all the same.")
        click.echo(about)
        if not click.confirm("Roll back all the same?"):
            raise click.ClickException("Nothing was changed; --yes rolls back without this question.")
    serving = registry.rollback(project, of=champion)
    back = ["--project", str(project)] if project else ["--default"]
    way_back = f"`{typed(settings.data_dir, 'promote', champion, *back)}` lets {champion} serve again."
    done = moves.rolled_back(serving, project)
    answer({"project": project, "version": serving, "before": champion}, f"{done}\n{way_back}")


def _registry(*given: Flags) -> Any:
    """The registry that the flags name; those of a group may stand before or after the name of its subcommand."""
    return registry_of(settings_from({name: value for flags in given for name, value in flags.items() if value}))
