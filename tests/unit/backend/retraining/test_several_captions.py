"""Several captions of one annotation are several references of its image, from Label Studio's JSON to the scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backend.cli.main import main
from backend.images.archive import ImageStore
from backend.label_studio import wire
from backend.reports import edits
from backend.reports.economics.measures import measure
from backend.retraining import snapshot
from backend.retraining.heartbeat import Heartbeat
from backend.settings import Settings
from backend.store.store import Store
from labeling_config import parse, shipped
from tests.factories import draft, picture, settings
from tests.fakes import Answer, Host, host
from training.metrics import cider_d
from training.metrics.bleu_statistics import bleu_statistics, corpus_bleu_4

CONFIG = shipped("multi_caption")
TAGS = parse(CONFIG)
DRAFT = "a red dot on paper"
SEVERAL = ("A red dot on paper.", "a dot on a wall", "one small red dot")


def told(action: str, second: int, *texts: str, annotation: int = 1, person: int = 1) -> dict[str, Any]:
    """The webhook call of an annotation of task 1 with these captions."""
    moment = f"2026-01-01T00:00:{second:02d}Z"
    made = {"id": annotation, "task": 1, "created_at": "2026-01-01T00:00:00Z", "updated_at": moment}
    made |= {"completed_by": person, "result": [wire.result(TAGS, *texts, origin="prediction-changed")]}
    shown = {"id": 1, "data": {"image": "/data/upload/1/1.jpg"}}
    return {"action": action, "annotation": made, "task": shown, "project": {"id": 1, "label_config": CONFIG}}


def references(configured: Settings, store: Store) -> tuple[str, ...]:
    """Those of the image in a new snapshot."""
    requested = store.request_retrain(1, asked=True, every=50)
    assert requested is not None
    claimed = store.claim_retrain(requested.id)
    assert claimed is not None
    frozen = store.freeze_retrain(claimed)
    assert frozen is not None
    [row] = snapshot.take(configured, store, frozen, Heartbeat(store, frozen), ImageStore(configured)).rows
    store.finish_retrain(frozen, state="done", outcome="for a test")
    return row.references


def exported(configured: Settings, kind: str) -> str:
    out = configured.data_dir / f"out.{kind}"
    arguments = [
        "export",
        "--project",
        "1",
        "--format",
        kind,
        "--out",
        str(out),
        "--data-dir",
        str(configured.data_dir),
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return out.read_text()


@pytest.fixture
def studio() -> Any:
    with host() as made:
        made.answers["/data/upload/1/1.jpg"] = Answer(body=picture())
        yield made


def test_several_captions_of_an_image_are_its_references_everywhere(tmp_path: Path, studio: Host) -> None:
    configured = settings(tmp_path, LABEL_STUDIO_URL=studio.url)
    store = Store(configured.database_url)
    store.migrate()
    store.add_drafts(1, [draft(1, text="A red dot on paper.")])
    store.record(wire.event(told("ANNOTATION_CREATED", 1, *SEVERAL)))
    assert references(configured, store) == SEVERAL

    pair = json.loads(exported(configured, "jsonl"))
    assert pair["references"] == list(SEVERAL)
    assert [row["caption"] for row in csv.DictReader(exported(configured, "csv").splitlines())] == list(SEVERAL)
    assert [each["caption"] for each in json.loads(exported(configured, "coco"))["annotations"]] == list(SEVERAL)

    corrected = store.corrected_drafts(1)
    rows = measure(corrected)
    assert (rows.unchanged.tolist(), rows.edits.tolist()) == ([True], [0]), "the draft is kept, others are beside it"
    [version] = edits.by_version(store.draft_changes(1))
    assert (version["kept"], version["edits"]) == (1, 0)

    store.record(wire.event(told("ANNOTATION_UPDATED", 2, SEVERAL[0], "", SEVERAL[2])))
    assert references(configured, store) == (SEVERAL[0], SEVERAL[2]), "an emptied box deletes its caption alone"
    store.record(wire.event(told("ANNOTATION_CREATED", 3, "two dots", SEVERAL[0], annotation=2, person=2)))
    assert references(configured, store) == (SEVERAL[0], SEVERAL[2], "two dots"), "of two people, each once"


def test_each_reference_counts_for_scores() -> None:
    others = ["a blue square sits", "the blue square sits there"]
    for said in SEVERAL:
        assert corpus_bleu_4(bleu_statistics([said, others[0]], [SEVERAL, others]).sum(axis=0)) == pytest.approx(100)
        found = cider_d([said, others[0]], [SEVERAL, others])
        assert found.value > cider_d([said, others[0]], [["no word of it"], others]).value
        assert found.corpus == "refs:2-3|n:2"


def test_a_draft_goes_to_the_first_box_alone() -> None:
    [entry] = wire.prediction(draft(1, text=DRAFT), TAGS)["result"]
    assert entry["value"] == {"text": [DRAFT]}
