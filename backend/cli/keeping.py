"""`captioner backup`, `restore` and `forget`: copies of a data folder, and what must leave it."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from backend.cli.options import example, project_option, setting, settings_from, store_of
from backend.domain.errors import CaptionerError
from training.commands.answers import answer, as_json, json_option, say

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(epilog=example("captioner backup /mnt/backup", "captioner backup /mnt/backup --without-images"))
@click.argument("folder", type=FOLDER)
@setting("data_dir", "database_url", "images_url")
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


@click.command(epilog=example("captioner forget --annotator 7", "captioner forget --image 12 --project 3"))
@setting("data_dir", "database_url", "images_url")
@click.option("--annotator", type=int, help="Label Studio's number of the person whose captions go.")
@click.option("--image", metavar="SHA256|TASK", help="The image that goes, by its content or a task that shows it.")
@project_option("Only this project; with a TASK the project that it is of.", required=False)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def forget(annotator: int | None, image: str | None, project: int | None, yes: bool, **flags: Any) -> None:
    """Erase one person's captions, or one image, everywhere.

    That is the database, snapshots, caches, examples and indexes of versions. Neither is taken in from Label Studio
    again. It says first which model versions have learned it; their weights stay as they are.
    """
    from backend.retraining.forgetting import Forgetting, about, told
    from training.runtime.console import counted

    settings = settings_from(flags)
    store = store_of(settings)
    traces = _traces(store, annotator, image, project)
    forgetting = Forgetting(settings, store, traces)
    learnt = forgetting.learnt()
    for each in traces:
        made, of = counted(len(each.annotations), "annotation"), counted(len(each.tasks), "task")
        say(f"Project {each.project_id}: {made} of {of}.")
    for sentence in about(learnt):
        say(sentence)
    if not yes:
        confirm("Erase this? It cannot be undone.")
    forgotten = forgetting.forget()
    answer({**asdict(forgotten), **asdict(learnt)}, lambda: told(forgotten))


def _traces(store: Any, annotator: int | None, image: str | None, project: int | None) -> list[Any]:
    """What there is of the person or the image."""
    from backend.store.keeping import traces as find

    if (annotator is None) == (image is None):
        raise click.UsageError("Give --annotator or --image.")
    if annotator is not None:
        found, what = find.of_annotator(store, annotator, project), f"annotator {annotator}"
    elif image is not None and re.fullmatch("[0-9a-f]{64}", image):
        found, what = find.of_image(store, image), f"the image {image}"
    elif image is not None and image.isdigit() and project is not None:
        found, what = find.of_task(store, project, int(image)), f"task {image} of project {project}"
    else:
        raise click.UsageError("Give --image the SHA-256 of its content, or a task and its --project.")
    if not any(found):
        raise CaptionerError(f"Nothing is known of {what}.")
    return [each for each in found if each]


def confirm(question: str) -> None:
    """Ask before something is done; a program cannot be asked and must give --yes."""
    if as_json():
        raise click.UsageError(f"{question} Give --yes.")
    click.confirm(question, abort=True)
