"""`captioner backup` and `restore`: copies of a data folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, setting, settings_from, store_of
from training.commands.answers import answer, as_json, json_option

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(epilog=example("captioner backup /mnt/backup", "captioner backup /mnt/backup --without-images"))
@click.argument("folder", type=FOLDER)
@setting("data_dir", "database_url")
@click.option("--without-images", is_flag=True, help="Only list the images.")
@json_option
def backup(folder: Path, without_images: bool, **flags: Any) -> None:
    """Copy a data folder while everything runs.

    The copy has the database, checkpoints, snapshots, images and the Label Studio of `captioner up`. FOLDER is a
    backup that is brought up to date, or new. It then holds what the data folder holds, and nothing else.
    """
    from backend.up.keeping.backup import backup as make
    from backend.up.keeping.backup import check_place, told
    from training.runtime.console import ProgressBar

    settings = settings_from(flags)
    check_place(settings, folder)
    store = store_of(settings)
    with ProgressBar("Bytes") as bar:
        made = make(settings, store, folder, not without_images, bar.show)
    answer({"backup": str(folder), **asdict(made)}, lambda: told(made, folder))


@click.command(epilog=example("captioner restore /mnt/backup --data-dir ./data"))
@click.argument("folder", type=FOLDER)
@setting("data_dir", "database_url")
@click.option("--yes", is_flag=True, help="Move aside what the data folder holds, without asking.")
@json_option
def restore(folder: Path, yes: bool, **flags: Any) -> None:
    """Put a backup into a data folder that nobody uses.

    Every file is compared with its hash first. What the data folder holds is moved aside, not deleted.
    """
    from backend.settings import Settings
    from backend.up.keeping.restore import check, held, told
    from backend.up.keeping.restore import restore as put
    from training.runtime.console import ProgressBar

    settings = Settings.from_env(**flags)
    check(settings, folder)
    if not yes and held(settings):
        confirm(f"{settings.data_dir} is not empty. Move what it holds aside?")
    with ProgressBar("Bytes") as bar:
        restored = put(settings, folder, bar.show)
    answer({"restored": str(folder), **asdict(restored)}, lambda: told(restored))


def confirm(question: str) -> None:
    """Ask before something is done; a program cannot be asked and must give --yes."""
    if as_json():
        raise click.UsageError(f"{question} Give --yes.")
    click.confirm(question, abort=True)
