"""A project in the middle of its life: versions with verdicts, corrected drafts, retrains, and some of it failed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from PIL import Image

from backend.domain.corrections import Draft, DraftFailure
from backend.store.database import now
from backend.store.reconciliations import ReconciliationState
from backend.store.registry import HELD, PASSED, REJECTED, ModelVersion
from backend.store.retrains import DONE, FAILED, Retrain
from backend.store.tables import retrains
from backend.web.services import Services
from tests.factories import LONG_AGO, correction, draft, saved
from training.gate.bootstrap import Difference
from training.gate.rule import Outcome
from training.gate.verdict import Scores, SetVerdict, Verdict
from training.metrics import Score

PAIRS = [
    ("A man in a red shirt.", "A woman in a red shirt."),
    ("Two dogs run on the grass.", "Two dogs run on the grass."),
    ("A boy jumps into a pool.", "A boy in blue trunks jumps into a swimming pool."),
    ("A dog is playing with a ball.", "A brown dog is playing with a tennis ball in the snow."),
    ("一个男人在骑自行车", "一个女人在骑自行车"),
    ("صبي يلعب كرة القدم", "صبي صغير يلعب كرة القدم"),
    ("A child <b>smiles</b>.", "A child on a swing <i>smiles</i>."),
    ("A crowd of people.", "A crowd of people watch a parade."),
]
"""Drafts and what annotators made of them."""
SECONDS = (now() - timedelta(hours=2) - LONG_AGO).total_seconds()


def verdict(decision: Outcome, candidate: float, champion: float | None, pairs: int = 120, **fields: Any) -> Verdict:
    def scores(value: float) -> Scores:
        return Scores(*(Score(name, value, "bleu") for name in ("BLEU-4", "ROUGE-L", "CIDEr-D")))

    difference = None
    if champion is not None:
        value = candidate - champion
        difference = Difference(value, value - 1.8, value + 1.8, 0.9, 0.025)
    judged = SetVerdict(
        name="corrections", role="corrections", pairs=pairs, set_hash="1", interim_looks=0, level=0.025,
        champion=None if champion is None else scores(champion), candidate=scores(candidate), difference=difference,
    )  # fmt: skip
    given: dict[str, Any] = {
        "decision": decision,
        "provisional": pairs < 100,
        "reason": f"BLEU-4 {candidate - (champion or 0):+.1f} on corrections",
        "pairs": pairs,
        "champion_score": None if champion is None else scores(champion).bleu_4,
        "candidate_score": scores(candidate).bleu_4,
        "margin": 1.0,
        "sets": (judged,),
    }
    return Verdict(**{**given, **fields})


def lively(services: Services, project_id: int = 1) -> Retrain:
    """Fill the store with such a project; returns its running retrain."""
    store, registry = services.store, services.registry
    registry.register(ModelVersion("starter", services.settings.data_dir / "starter", created_at=now() - timedelta(9)))
    registry.promote(project_id, "starter", reason="the first", by="operator")
    made: list[tuple[Outcome, str, float, float | None, int]] = [
        ("promote", PASSED, 18.2, None, 40),
        ("promote", PASSED, 21.5, 18.9, 90),
        ("reject", REJECTED, 17.0, 21.9, 120),
        ("hold", HELD, 22.1, 22.0, 140),
        ("promote", PASSED, 24.9, 22.3, 180),
    ]
    parent = "starter"
    for number, (decision, state, candidate, champion, pairs) in enumerate(made, start=1):
        name = f"p{project_id}-v{number}"
        folder = services.settings.data_dir / "models" / name
        registry.register(
            ModelVersion(
                name,
                folder,
                project_id,
                parent,
                verdict=verdict(decision, candidate, champion, pairs).to_json(),
                state=state,
                created_at=now() - timedelta(6 - number),
            )
        )
        if decision == "promote":
            registry.promote(project_id, name, reason="better", by="gate")
            parent = name
        correct(services, project_id, name, 100 * number)
    for outcome, state in [("p1-v4 is held.", DONE), ("The disk is full.", FAILED), ("p1-v5 is promoted.", DONE)]:
        finish(services, begin(services, project_id), state, outcome)
    store.add_failures(project_id, [DraftFailure(project_id, 9, "The image /data/upload/1/9.jpg is not there (404).")])
    compared = ReconciliationState(project_id, compared_at=now(), completed_at=now(), completed_tasks=40, repaired=2)
    store.save_reconciliation(replace(compared, unreadable=[7]))
    store.record(saved(correction(999, "waits", project_id=project_id, task_id=999)))
    running = begin(services, project_id)
    services.champions.serve(project_id, parent, services.settings.data_dir / "models" / parent)
    return running


def correct(services: Services, project_id: int, version: str, first: int) -> None:
    """Drafts of the version and what annotators made of them, with images in the cache."""
    drafts: list[Draft] = []
    made = []
    for number, (text, caption) in enumerate(PAIRS):
        id = 1000 * project_id + first + number
        sha256 = _cached(services.settings.data_dir, id) if number % 2 else "f" * 64
        drafts.append(draft(id, version, text, project_id=project_id, image_sha256=sha256))
        made.append(correction(id, caption, project_id=project_id, second=SECONDS))
    services.store.add_drafts(project_id, drafts)
    services.store.record(saved(*made))


def begin(services: Services, project_id: int) -> Retrain:
    requested = services.store.request_retrain(project_id, asked=True, every=1)
    assert requested is not None
    claimed = services.store.claim_retrain(requested.id)
    assert claimed is not None
    frozen = services.store.freeze_retrain(claimed)
    assert frozen is not None
    return frozen


def finish(services: Services, retrain: Retrain, state: str, outcome: str, minutes: float = 3) -> None:
    assert services.store.finish_retrain(retrain, state=state, outcome=outcome)
    with services.store.writing(retrain.project_id) as connection:
        began = now() - timedelta(minutes=minutes)
        connection.execute(retrains.update().where(retrains.c.id == retrain.id).values(started_at=began))
    services.store.record(saved(correction(5000 + retrain.id, "new", project_id=retrain.project_id)))


def _cached(data_dir: Path, seed: int) -> str:
    """An image in the cache of images, by its hash."""
    image = Image.linear_gradient("L").resize((64, 48)).rotate(seed * 7 % 360).convert("RGB")
    content = image.tobytes()
    sha256 = hashlib.sha256(content).hexdigest()
    folder = data_dir / "images" / sha256[:2]
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{sha256}.jpg")
    return sha256
