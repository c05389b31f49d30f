"""`captioner forget`: nothing of a person's captions, or of an image, stays in the data folder or comes in again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from backend.cli.main import main
from backend.domain.corrections import Event
from backend.images.sharing import RECORD
from backend.retraining import examples
from backend.retraining.examples import Example, Examples
from backend.retraining.snapshot import Record, change_of, record_of
from backend.store.database import now
from backend.store.recording import RECONCILED
from backend.store.registry import NEW, ModelVersion
from backend.web.services import Services
from backend.web.watcher import Watcher
from tests import factories
from tests.factories import correction, draft, picture, saved, served, task
from training.captioner import checkpoint
from training.data import manifest
from training.data.manifest import Row
from training.features.cache import Cache
from training.gate import verdict as gate
from training.metrics import Score

WORDS, PERSON, REFERENCE = b"zanzibar", b"ann@example.com", b"/data/upload/1/1.jpg"
ANN, BOB = 7, 8
HERS = correction(1, "a dot of Zanzibar", annotator=ANN)
HIS = correction(2, "a dot of Bob's", annotator=BOB)


@dataclass
class Folder:
    """A data folder with captions of two people of one image, and two versions that learned them."""

    services: Services
    sha256: str

    @property
    def path(self) -> Path:
        return self.services.settings.data_dir

    def holds(self, word: bytes) -> list[str]:
        """The files with the word, whatever its case."""
        return holding(self.path, word)


def holding(folder: Path, word: bytes) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path.relative_to(folder).as_posix() for path in files if word.lower() in path.read_bytes().lower()]


def body(each: Any) -> dict[str, Any]:
    """A webhook as Label Studio sends it."""
    person = {"id": each.annotator, "email": "ann@example.com" if each.annotator == ANN else "bob@example.com"}
    result = [{"value": {"text": list(each.texts)}, "from_name": "caption"}]
    annotation = {"id": each.annotation_id, "result": result, "completed_by": person, "task": each.task_id}
    image = f"/data/upload/1/{each.task_id}.jpg"
    return {"annotation": annotation, "task": {"id": each.task_id, "data": {"image": image}}}


def receive(services: Services, each: Any, **fields: Any) -> None:
    services.store.record(replace(saved(each), body=body(each), **fields))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    services = factories.backend(tmp_path / "data", CAPTIONER_IMAGES_URL=str(tmp_path / "kept"))
    store, data = services.store, tmp_path / "data"
    content = picture()
    sha256 = hashlib.sha256(content).hexdigest()
    for root in (data / "images", tmp_path / "kept"):
        image = root / sha256[:2] / f"{sha256}.png"
        image.parent.mkdir(parents=True)
        image.write_bytes(content)
    entry = data / "images" / "index" / "ab" / "abcd.json"
    entry.parent.mkdir(parents=True)
    entry.write_text(json.dumps({"file": f"{sha256[:2]}/{sha256}.png", "sha256": sha256}))
    store.add_drafts(1, [draft(1, "p1-v1", "a dot", image_sha256=sha256), draft(2, "p1-v1", image_sha256=sha256)])
    receive(services, HERS)
    receive(services, replace(HERS, texts=("a Zanzibar dot",), updated_at=now()))
    store.show_instead(1, [draft(3, "p1-v1", "a Zanzibar dot", image_sha256=sha256, from_task=1)])
    receive(services, HIS)
    receive(services, correction(3, "a dot, changed", annotator=BOB))
    store.place(1, [sha256], 0.0)
    store.add_features(1, "an encoder", {sha256: b"feature"})
    Cache(data / "features" / "one", (2,), "<f4").add([f"{sha256}-0", f"{'0' * 64}-0"], np.zeros((2, 2), np.float32))
    row = Row(data / "images" / sha256[:2] / f"{sha256}.png", sha256, ("a Zanzibar dot", "a dot of Bob's"))
    other = Row(data / "images" / "00" / f"{'0' * 64}.png", "0" * 64, ("another dot",))
    snapshot = data / "snapshots" / "1-2" / "manifest.jsonl"
    snapshot.parent.mkdir(parents=True)
    manifest.save([row, other], snapshot)
    manifest.save([row], snapshot.with_name(NEW))
    hashes = manifest.hash_file(snapshot), manifest.content_hash([row, other])
    record = Record("1-2", 1, 2, None, "now", None, "2026-01-01", *hashes, images={"train": 2}, captions=3)
    snapshot.with_name(RECORD).write_text(json.dumps(vars(record)))
    score = Score("BLEU-4", 1.0, "", "")
    quoted = gate.Example(f"{sha256}.png", ("a Zanzibar dot",), "", "", -1.0)
    scores = gate.Scores(score, score, score)
    of_set = gate.SetVerdict("blind", "blind", 1, "h", 0, 0.05, None, scores, None, (quoted,))
    verdict = gate.Verdict("promote", True, "better", 1, None, None, 1.0, sets=(of_set,)).to_json()
    for name, parent in (("p1-v1", None), ("p1-v2", "p1-v1")):
        folder = data / "models" / name
        (folder / examples.FOLDER).mkdir(parents=True)
        captions = ("a Zanzibar dot", "a dot of Bob's")
        found = Examples((Example(f"{sha256}.png", "a dot", captions, "1.jpg"),))
        (folder / examples.FOLDER / "1.jpg").write_bytes(b"attention")
        listed = {"examples": [vars(each) for each in found.examples], "without": ""}
        (folder / examples.FOLDER / examples.LIST).write_text(json.dumps(listed))
        index = np.array([list(bytes.fromhex(sha256)), [0] * 32], np.uint8)
        of = "retrieval" if parent else "neighbours"  # as an earlier release called it
        tensors: dict[str, Any] = {"weight": np.ones(2, np.float32), f"{of}.hashes": index}
        tensors[f"{of}.captions"] = np.array([[[1]], [[2]]], np.int32)
        save_file(tensors, folder / "model.safetensors")
        for file in ("config.json", "vocabulary.json"):
            (folder / file).write_text("{}")
        if parent:
            sums = (f"{manifest.hash_file(folder / file)}  {file}\n" for file in checkpoint.FILES)
            (folder / checkpoint.SUMS).write_text("".join(sums))
        made = ModelVersion(name, folder, 1, parent=parent, manifest=snapshot if parent is None else None)
        services.registry.register(replace(made, verdict=verdict))
    services.registry.register(ModelVersion("starter", data / "models" / "starter"))
    services.registry.promote(1, "p1-v2", reason="better", by="gate")
    yield Folder(services, sha256)
    services.store.close()


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(main, ["forget", *map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_nothing_of_a_persons_captions_stays(folder: Folder) -> None:
    with folder.services.store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    listed = {f"models/{name}/examples/examples.json" for name in ("p1-v1", "p1-v2")}
    manifests = {f"snapshots/1-2/{name}.jsonl" for name in ("manifest", "new")}
    assert set(folder.holds(WORDS)) == {"captioner.db", *manifests, *listed}
    assert folder.holds(PERSON)
    told = run("--annotator", ANN, "--yes", "--data-dir", folder.path)
    assert folder.holds(WORDS) == []
    assert folder.holds(PERSON) == []
    assert (told["annotations"], told["revisions"], told["manifests"]) == (1, 2, 2)
    assert (told["trained"], told["descended"], told["serving"]) == (["p1-v1"], ["p1-v2"], ["p1-v2"])
    assert (told["indexed"], told["free"]) == (["p1-v1", "p1-v2"], ["starter"])
    store = folder.services.store
    assert [each.texts for each in store.corrections(1)] == [("a dot of Bob's",), ("a dot, changed",)]
    assert store.annotators(1) == [BOB]
    assert store.counts(1).corrections == 2
    assert store.corrections(1)[1].draft_text is None, "what was copied from hers"
    snapshot = folder.path / "snapshots" / "1-2" / "manifest.jsonl"
    assert [row.references for row in manifest.load(snapshot)] == [("a dot of Bob's",), ("another dot",)]
    assert change_of(snapshot) is None
    record = record_of(snapshot)
    assert record is not None
    assert record.captions == 2
    assert record.forgotten[0]["captions"] == 1
    shown = CliRunner().invoke(main, ["versions", "show", "p1-v1", "--data-dir", str(folder.path)])
    assert "UTC: 1 caption taken out" in shown.output
    [example] = examples.load(folder.path / "models" / "p1-v1").examples
    assert example.captions == ("a dot of Bob's",)
    for name, index in (("p1-v1", "neighbours"), ("p1-v2", "retrieval")):
        tensors = load_file(folder.path / "models" / name / "model.safetensors")
        assert tensors[f"{index}.captions"].tolist() == [[[2]]]
        assert tensors["weight"].tolist() == [1, 1]
    for version in map(folder.services.registry.get, ("p1-v1", "p1-v2")):
        assert version.digest is not None
        checkpoint.check_digest(version.checkpoint, version.digest)
        checkpoint.check_sums(version.checkpoint)
    assert list((folder.path / "images").rglob("*.png")), "the image is nobody's caption"


def test_machines_that_share_a_store_forget_alike(folder: Folder, tmp_path: Path) -> None:
    database = f"sqlite:///{folder.path}/captioner.db"
    here = folder.services
    here.sharing.share_versions(here.registry)
    assert holding(tmp_path / "kept", WORDS)
    options = ["--database-url", database, "--images-url", tmp_path / "kept"]
    told = run("--annotator", ANN, "--yes", "--data-dir", tmp_path / "other", *options)
    assert (told["manifests"], told["trained"]) == (2, ["p1-v1"])
    assert not holding(tmp_path / "other", WORDS)
    assert not holding(tmp_path / "kept", WORDS)
    assert folder.holds(WORDS)
    here.sharing.follow()
    assert not folder.holds(WORDS)
    serving = here.registry.get("p1-v2")
    here.sharing.fetch(serving.checkpoint)
    checkpoint.check_digest(serving.checkpoint, serving.digest)


def test_a_forgotten_caption_does_not_come_in_again(folder: Folder) -> None:
    run("--annotator", ANN, "--yes", "--data-dir", folder.path)
    again = replace(HERS, updated_at=now())
    for event in ("ANNOTATION_UPDATED", RECONCILED):
        observed = {"observed_at": now(), "whole_tasks": (1,)} if event == RECONCILED else {}
        receive(folder.services, again, action=event, **observed)
    assert folder.holds(WORDS) == []
    assert folder.holds(PERSON) == []
    fresh = replace(HERS, texts=("of a fresh Label Studio",), created_at=now(), updated_at=now())
    receive(folder.services, fresh)
    assert folder.services.store.corrections(1)[0].texts == ("of a fresh Label Studio",)


def test_processes_that_serve_forget_it_with_their_next_draft(folder: Folder) -> None:
    served(folder.services, "p1-v2")
    reuse = folder.services.reuse
    assert reuse is not None
    own = {1: draft(9, "p1-v2", "a dot", image_sha256=folder.sha256)}
    folder.services.store.record(
        Event("ANNOTATIONS_DELETED", 1, deleted_annotations=(2, 3))
    )  # the others', which would be copied first
    assert reuse.shown(1, "p1-v2", own)[1].text == "a Zanzibar dot"
    run("--annotator", ANN, "--yes", "--data-dir", folder.path)
    assert reuse.shown(1, "p1-v2", own)[1].text == "a dot"


def test_processes_that_serve_load_a_version_again_without_the_images(folder: Folder) -> None:
    watcher, champions = Watcher(folder.services), folder.services.champions
    watcher.load_champions()
    before = champions.model("p1-v2")
    watcher.load_champions()
    assert champions.model("p1-v2") is before
    run("--annotator", ANN, "--yes", "--data-dir", folder.path)
    watcher.load_champions()
    after = champions.model("p1-v2")
    assert after is not before
    watcher.load_champions()
    assert champions.model("p1-v2") is after


@pytest.mark.parametrize("by", ["content", "task"])
def test_nothing_of_an_image_stays(folder: Folder, tmp_path: Path, by: str) -> None:
    named = ["--image", folder.sha256] if by == "content" else ["--image", 1, "--project", 1]
    kept = ["--data-dir", folder.path, "--images-url", tmp_path / "kept"]
    told = run(*named, "--yes", *kept)
    assert (told["annotations"], told["images"], told["features"]) == (3, 2, 1)
    for word in (WORDS, PERSON, REFERENCE, folder.sha256.encode(), b"attention"):
        assert folder.holds(word) == [], word
    assert list((tmp_path / "kept").rglob("*.png")) == []
    snapshot = folder.path / "snapshots" / "1-2" / "manifest.jsonl"
    assert [row.references for row in manifest.load(snapshot)] == [("another dot",)]
    assert change_of(snapshot) is None
    store = folder.services.store
    assert store.get_task(1, 1) is None
    for event in ("ANNOTATION_CREATED", RECONCILED):
        observed = {"observed_at": now(), "whole_tasks": (1,)} if event == RECONCILED else {}
        receive(folder.services, correction(5, "Zanzibar again", task_id=1), action=event, **observed)
    assert folder.holds(WORDS) == []
    assert store.get_task(1, 1) is None
    [failure] = folder.services.drafting.draft(1, [task(1)], "p1-v2")
    assert "was forgotten" in getattr(failure, "reason", "")


def test_a_checkpoint_that_was_exchanged_is_not_sealed_anew(folder: Folder) -> None:
    (folder.path / "models" / "p1-v1" / "vocabulary.json").write_text("[]")
    refused = run("--annotator", ANN, "--yes", "--data-dir", folder.path, code=1)
    assert "is not the one that was registered" in refused["error"]


def test_it_asks_first_and_names_what_learned_it(folder: Folder) -> None:
    asked = CliRunner().invoke(main, ["forget", "--annotator", "7", "--data-dir", str(folder.path)], input="n\n")
    assert asked.exit_code == 1
    assert "Versions have learned it: p1-v1 and, from them, p1-v2." in asked.output
    assert "promote a version that has not learned it (starter)" in asked.output
    assert folder.holds(WORDS)
    assert "Give --yes" in run("--annotator", ANN, "--data-dir", folder.path, code=2)["error"]


def test_what_is_unknown_or_being_learned_is_told(folder: Folder) -> None:
    assert (
        run("--annotator", 99, "--yes", "--data-dir", folder.path, code=1)["error"]
        == "Nothing is known of annotator 99."
    )
    assert "--project" in run("--image", 1, "--yes", "--data-dir", folder.path, code=2)["error"]
    store = folder.services.store
    retrain = store.request_retrain(1, asked=True, every=0)
    assert retrain is not None
    claimed = store.claim_retrain(retrain.id)
    assert claimed is not None
    assert store.freeze_retrain(claimed) is not None
    assert (
        "is learning from its captions now"
        in run("--annotator", ANN, "--yes", "--data-dir", folder.path, code=1)["error"]
    )
    assert folder.holds(WORDS)
