"""The project that `up` makes in its Label Studio: created once, filled with images, connected to the backend."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

import labeling_config
from backend.corrections.reconcile import about_unreadable, reconcile
from backend.domain.errors import CaptionerError, LabelStudioError
from backend.label_studio.client import LabelStudio, upload_name
from backend.label_studio.connect import connect
from backend.settings import Settings
from backend.store.store import Store
from backend.up.photos import SUFFIXES, fault, left_out, legible, listed
from backend.up.steps import say, step
from training.runtime.console import ProgressBar, counted
from training.runtime.files import atomic_file

SCENES_SEED = 2026
_UPLOAD = re.compile(r"/data/upload/\d+/[0-9a-f]{8}-([^/]*)$")
_NAME_LENGTH = 40
UPLOAD_AT_ONCE = 25  # few enough for a smooth progress bar, enough to be fast


@dataclass(frozen=True)
class Images:
    """The images of a project; `key` identifies the project in its data folder. The `hidden` ones are left out."""

    key: str
    title: str
    paths: Sequence[Path]
    hidden: Sequence[Path] = ()


def photos(folder: Path) -> Images:
    """All photos below a folder, sorted by path. Raises CaptionerError when there are none, or none can be read."""
    paths, hidden = listed(folder)
    if not paths:
        also = f" {left_out(hidden, ())}" if hidden else ""
        raise CaptionerError(f"The folder {legible(str(folder))} has no photos ({', '.join(sorted(SUFFIXES))}).{also}")
    if all(map(fault, paths)):  # the first that can be read ends it
        raise CaptionerError(
            f"None of the {len(paths)} photos of the folder {legible(str(folder))} can be used; the first: "
            f"{fault(paths[0])}"
        )
    key, title = legible(f"photos:{folder}"), legible(f"Captions of {folder.name}")[:50]
    return Images(key, title, paths, hidden)


def scenes(data_dir: Path, count: int) -> Images:
    """Generated scenes, drawn on first use. Half of them show things that the starter captioner has never seen."""
    from training.data.scenes import write

    folder = data_dir / "scenes"
    if count and not (folder / "manifest.jsonl").exists():
        write(folder, count, seed=SCENES_SEED, world="full", side=256)
    return Images("scenes", "Captions of generated scenes", sorted(folder.glob("*.jpg")))


def open_project(client: LabelStudio, data_dir: Path, images: Images) -> int:
    """Create the project for these images and import them; returns its number. Steps of an earlier run are skipped."""
    known_file = data_dir / "label-studio" / "projects.json"
    known: dict[str, int] = json.loads(known_file.read_text()) if known_file.exists() else {}
    mark = f"Made by captioner up from {images.key}"
    descriptions = {project["id"]: project.get("description") for project in client.projects()}
    project_id = known.get(images.key)
    if project_id not in descriptions:  # a run that was killed may have created it without saving the number
        project_id = next((id_ for id_, description in descriptions.items() if description == mark), None)
    if project_id is None:
        with step("Creating the project", f"Project “{images.title}” created"):
            config = labeling_config.shipped("caption")
            project_id = int(client.create_project(images.title, config, description=mark)["id"])
    known[images.key] = project_id
    with atomic_file(known_file) as unfinished:
        unfinished.write_text(json.dumps(known))
    _import(client, project_id, images, data_dir)
    return project_id


def connect_project(client: LabelStudio, settings: Settings, project_id: int, store: Store) -> None:
    """Connect the project to the backend and read the captions it already has."""
    with step("Connecting Label Studio to the ML backend", "Label Studio and the ML backend connected"):
        connection = connect(client, project_id, settings.backend_url, settings.basic_auth)
        if connection.problems:
            raise LabelStudioError(" ".join(connection.problems))
        try:
            found = reconcile(project_id, client, store)
            problem = about_unreadable(found.unreadable) if found.unreadable else ""
        except LabelStudioError as error:  # the worker tries again
            store.save_failure(project_id, problem := str(error))
    if problem:
        say(f"! {problem}")


def _import(client: LabelStudio, project_id: int, images: Images, data_dir: Path) -> None:
    """Upload the images that the project does not have yet, and tell which files are left out.

    A file lists the uploaded images and grows with each batch, so that an interrupted import continues. A batch that
    was uploaded but not listed is recognised by its file names.
    """
    done_file = data_dir / "label-studio" / f"imported-{project_id}.txt"
    done = set(os.fsdecode(done_file.read_bytes()).split("\n")) if done_file.exists() else set()
    faults: list[str] = []
    if missing := [path for path in images.paths if _line(path) not in done]:
        missing = _not_arrived(client, project_id, missing, done, done_file)
    with ProgressBar("Importing images") as bar:
        for begin in range(0, len(missing), UPLOAD_AT_ONCE):
            batch = []
            for path in missing[begin : begin + UPLOAD_AT_ONCE]:
                if reason := fault(path):
                    faults.append(reason)
                else:
                    batch.append(path)
            client.upload_images(project_id, batch)
            _list_as_done(done_file, batch)
            bar.show(min(begin + UPLOAD_AT_ONCE, len(missing)), len(missing))
    if imported := len(missing) - len(faults):
        say(f"✓ {counted(imported, 'image')} imported")
    if images.hidden or faults:
        say(f"! {left_out(images.hidden, faults)}")


def _not_arrived(
    client: LabelStudio, project_id: int, missing: Sequence[Path], done: set[str], done_file: Path
) -> list[Path]:
    """The images that the project does not have; those that a killed run uploaded are listed as done."""
    unlisted = Counter(_uploads(client, project_id)) - Counter(_kept_name(Path(line)) for line in done if line)
    arrived = []
    for path in missing:
        if unlisted[_kept_name(path)] > 0:
            unlisted[_kept_name(path)] -= 1  # each upload counts once
            arrived.append(path)
    _list_as_done(done_file, arrived)
    return [path for path in missing if path not in set(arrived)]


def _list_as_done(done_file: Path, paths: Sequence[Path]) -> None:
    with done_file.open("ab") as file:
        file.writelines(os.fsencode(f"{_line(path)}\n") for path in paths)


def _line(path: Path) -> str:
    """The path as one line: a file name may hold a line break, and no NUL."""
    return str(path).replace("\n", "\0")


def _uploads(client: LabelStudio, project_id: int) -> Iterator[str]:
    """Names of the files of the project's tasks, as `_kept_name` gives them."""
    for task in chain.from_iterable(client.task_summaries(project_id, set())):
        for value in task["data"].values():
            if isinstance(value, str) and (match := _UPLOAD.search(unquote(value))):
                yield match[1][:_NAME_LENGTH]


def _kept_name(path: Path) -> str:
    """As much of the name of an upload as Label Studio surely keeps, which cuts long names."""
    return upload_name(path)[:_NAME_LENGTH]
