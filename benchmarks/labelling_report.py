"""The page of `captioner report` for a learning curve, as if a project had been labelled in that way.

    python -m benchmarks.labelling_report DIR/curves/winter-combined-1.json DATA [--out report.html]

DATA becomes a data folder: of each label its draft with its signals, its correction, and whether a strategy selected it
or it was drawn at random; of each champion how many corrections it had learned. Nobody's time was measured, and no task
was blind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from backend.domain.corrections import Correction, Draft, Event, Task
from backend.drafts.calibrating import calibrate
from backend.reports.economics.page import save
from backend.reports.economics.report import report
from backend.serving.scores import NAMES
from backend.settings import Settings
from backend.store.database import now
from backend.store.drafts.selections import Chosen, Order
from backend.store.registry import ModelVersion, Registry
from backend.store.store import Store
from benchmarks.filling import retrained

PROJECT = 1


@click.command()
@click.argument("curve", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("folder", metavar="DATA", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: DATA/report.html]")
def main(curve: Path, folder: Path, out: Path | None) -> None:
    if folder.exists():
        raise click.ClickException(f"{folder} exists already; name a folder that does not.")
    kept = json.loads(curve.read_text(encoding="utf-8"))
    store = filled(folder, kept)
    save(report(store, PROJECT, names=False), out or folder / "report.html")
    click.echo(f"The page is {out or folder / 'report.html'}.")


def filled(folder: Path, kept: Mapping[str, Any]) -> Store:
    """A store in this new folder that holds what was labelled, in its order."""
    folder.mkdir(parents=True)
    settings = Settings.from_env({"CAPTIONER_DATA_DIR": str(folder)})
    store = Store(settings.database_url, folder)
    store.migrate()
    registry, labels = Registry(store), [point["labels"] for point in kept["points"]]
    for number, (begin, end) in enumerate(zip(labels, [*labels[1:], len(kept["labels"])], strict=True)):
        version = f"p{PROJECT}-v{number}"
        registry.register(ModelVersion(version, folder / "models" / version, PROJECT))
        if number:
            retrained(store, PROJECT, version)
        if kept["labels"][begin:end]:
            _label(store, version, kept["labels"][begin:end], begin, kept["strategy"])
    calibrate(store, PROJECT)
    return store


def _label(store: Store, version: str, labels: Sequence[Mapping[str, Any]], first: int, strategy: str) -> None:
    """Tasks from number `first` on are drafted, selected and corrected."""
    tasks = range(first + 1, first + 1 + len(labels))
    drafts = [
        Draft(
            PROJECT,
            task,
            version,
            f"/data/upload/{PROJECT}/{task}.jpg",
            each["draft"],
            0.5,
            each["image"],
            signals={name: value for name, value in zip(NAMES, each["signals"], strict=True) if value is not None},
        )
        for task, each in zip(tasks, labels, strict=True)
    ]
    store.add_drafts(PROJECT, drafts)
    if strategy != "random":
        selection = store.order_selection(PROJECT, Order(strategy, len(labels)))
        chosen = [Chosen(task, each["control"]) for task, each in zip(tasks, labels, strict=True)]
        store.save_choice(selection, version, None, chosen)
        store.mark_stored(selection, list(tasks), [])
    corrections = [
        Correction(task, PROJECT, task, (each["correction"],), now(), typed=(each["correction"],))
        for task, each in zip(tasks, labels, strict=True)
    ]
    seen = [Task(each.task_id, PROJECT, each.image, now()) for each in drafts]
    store.record(Event("ANNOTATIONS_CREATED", PROJECT, tuple(corrections), tuple(seen)))


if __name__ == "__main__":
    main()
