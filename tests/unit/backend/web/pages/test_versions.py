"""The page of a model version."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.domain.errors import ModelUnavailableError
from backend.reports import lineage
from backend.retraining.examples import FOLDER, LIST, Examples
from backend.retraining.examples import Example as Drafted
from backend.retraining.snapshot import RECORD, Record
from backend.store.registry import NEW, ModelVersion
from backend.web.app import create_app
from backend.web.services import Services
from tests import factories, lively
from tests.factories import checkpoint, correction, draft, picture, saved, served
from tests.pages import parsed, texts_of
from training.data import manifest
from training.data.manifest import HELD_OUT, TRAIN, Row
from training.gate.verdict import Example, Verdict

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """p1-v2, a child of p1-v1 and a grandchild of the starter, was rejected; p1-v1 serves."""
    services = factories.backend(tmp_path)
    registry = services.registry
    services.store.record(saved(correction(1), project_id=1))
    registry.register(ModelVersion("starter", checkpoint(tmp_path / "models" / "starter")))
    registry.register(ModelVersion("p1-v1", checkpoint(tmp_path / "models" / "p1-v1"), 1, "starter"))
    registry.promote(1, "p1-v1", reason="better", by="gate")
    rows = [Row(tmp_path / f"{n}.png", f"{n:064x}", ("a dog runs", "a dog"), TRAIN) for n in range(5)]
    path = manifest.save(rows, tmp_path / "snapshots" / "1-7" / "manifest.jsonl")
    manifest.save(rows[:2], path.with_name(NEW))
    at, of_file = "2026-11-20T20:30:00+00:00", manifest.hash_file(path)
    held = {HELD_OUT: 2, TRAIN: 5}
    record = Record("1-7", 1, 7, "p1-v1", "captioner 1.0", None, at, of_file, "c" * 64, held, 12)
    path.with_name(RECORD).write_text(json.dumps(asdict(record)))
    worst = Example("9.jpg", ("a dog runs on grass",), "a dog runs", "a cat sleeps on <b>a sofa</b>", -60.0)
    judged = lively.verdict("reject", 17.0, 21.9)
    judged = replace(judged, sets=(replace(judged.sets[0], worst=(worst,)),))
    verdict = judged.to_json()
    registry.register(
        ModelVersion(
            *("p1-v2", checkpoint(tmp_path / "models" / "p1-v2"), 1, "p1-v1", path, "1-7", verdict),
            state="rejected",
        )
    )
    return services


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


def page(client: FlaskClient, name: str, project_id: int = 1) -> str:
    answer = client.get(f"/projects/{project_id}/versions/{name}", headers=BROWSER)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return answer.get_data(as_text=True)


def said(html: str) -> str:
    return " ".join(texts_of(html))


def test_a_version_leads_to_its_parents_and_children(client: FlaskClient) -> None:
    newest, first, starter = (page(client, name) for name in ("p1-v2", "p1-v1", "starter"))
    addresses = set(parsed(newest).addresses)
    assert {"/projects/1/versions/p1-v1", "/projects/1/versions/starter", "/projects/1"} <= addresses
    assert "p1-v1 , which comes from starter" in said(newest)
    assert "/projects/1/versions/p1-v2" in parsed(first).addresses
    assert "/projects/1/versions/p1-v1" in parsed(starter).addresses
    assert "none, trained from scratch" in said(starter)


def test_it_says_from_what_it_was_made_in_the_words_of_the_command_line(
    client: FlaskClient, services: Services
) -> None:
    shown = said(page(client, "p1-v2"))
    facts = dict(lineage.origin(lineage.facts(services.registry, services.registry.get("p1-v2"))))
    assert facts["captions"] == "12 of 7 images (2 held_out, 5 train), content cccccccccccccccc"
    assert facts["learned"] == "2 images that no version before it had"
    for word in ("trained by", "captions", "learned", "frozen", "unchanged"):
        assert f"{word.capitalize()} {facts[word]}" in shown
    assert str(services.settings.data_dir) not in shown.replace(f"--data-dir {services.settings.data_dir}", "")


def test_the_verdict_stands_in_words_with_its_figures(client: FlaskClient, services: Services) -> None:
    shown = said(page(client, "p1-v2"))
    verdict = Verdict.from_json(services.registry.get("p1-v2").verdict or {})
    assert "p1-v2 was rejected: it is worse than p1-v1. What it was the first to learn is quarantined." in shown
    assert verdict.reason in shown
    assert "corrections 120 21.9 17.0 -4.9 (-6.7 to -3.1) 17.0 17.0" in shown
    assert "-60 BLEU-4 on 9.jpg of corrections" in shown
    assert "a cat sleeps on <b>a sofa</b>" in shown, "where it lost most, with nothing taken for HTML"
    assert "p1-v1 was not judged by the gate." in said(page(client, "p1-v1"))


def test_it_says_whether_it_serves_and_what_does_until_it_is_loaded(client: FlaskClient, services: Services) -> None:
    assert "It is the champion of project 1 and loading." in said(page(client, "p1-v1"))
    served(services, "p1-v1")
    assert "It serves project 1." in said(page(client, "p1-v1"))
    assert "It does not serve project 1; p1-v1 does." in said(page(client, "p1-v2"))
    services.registry.promote(1, "p1-v2", reason="a trial", by="operator")
    shown = said(page(client, "p1-v2"))
    assert "It is the champion of project 1 and loading; p1-v1 still serves." in shown
    assert "Champion of project 1 from 20" in shown
    assert "by operator: a trial" in shown

    def damaged(checkpoint: Path, device: str) -> None:
        raise RuntimeError("the weights are cut short")

    services.champions._load = damaged  # type: ignore[assignment]
    with pytest.raises(ModelUnavailableError):
        served(services, "p1-v2")
    assert "not served: The model p1-v2 cannot be loaded: the weights are cut short; p1-v1 still serves." in said(
        page(client, "p1-v2")
    )
    assert said(page(client, "p1-v1")).count("; until ") == 1, "its time is over"


def test_drafts_stand_with_what_people_made_of_them(client: FlaskClient, services: Services) -> None:
    texts = {11: "a dog runs", 12: "a dog sits", 13: "a dog runs"}
    services.store.add_drafts(1, [draft(task, "p1-v1", text) for task, text in texts.items()])
    corrected = {11: "Two dogs run <fast>", 12: "a dog sits", 13: "a brown dog runs"}
    services.store.record(saved(*(correction(task, text) for task, text in corrected.items())))
    html = page(client, "p1-v1")
    assert "<del>a dog runs</del><ins>Two dogs run &lt;fast&gt;</ins>" in " ".join(html.split())
    assert "Task 12, draft by p1-v1, kept unchanged" in said(html)
    assert "a <ins>brown</ins> dog runs" in " ".join(html.split())
    assert "No draft of it has been corrected yet." in said(page(client, "p1-v2"))


def test_attention_maps_are_shown_and_where_there_are_none_the_reason(client: FlaskClient, services: Services) -> None:
    assert "There are no attention maps: they are drawn when a retrain ends, and none was then." in said(
        page(client, "starter")
    )
    folder = services.registry.get("p1-v2").checkpoint / FOLDER
    folder.mkdir()
    examples = (Drafted("a.jpg", "a red dot", ("a dot", "one dot"), "1.jpg"), Drafted("b.jpg", "", ("a line",)))
    (folder / LIST).write_text(json.dumps(asdict(Examples(examples))))
    (folder / "1.jpg").write_bytes(picture(kind="JPEG"))
    html = page(client, "p1-v2")
    assert "Draft a red dot People a dot | one dot" in said(html)
    assert "Draft (empty)" in said(html)
    [address] = {each for each in parsed(html).addresses if "/attention/" in each}
    image = client.get(address)
    assert (image.status_code, image.mimetype, image.data[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert image.headers["X-Content-Type-Options"] == "nosniff"
    assert "private" in image.headers["Cache-Control"]
    for path in ("/projects/1/attention/1/p1-v2", "/projects/1/attention/7/p1-v2", "/projects/1/attention/0/p1-v1"):
        assert client.get(path).status_code == 404


def test_versions_of_other_projects_and_unknown_ones_have_no_page(client: FlaskClient, services: Services) -> None:
    services.store.record(saved(correction(2, project_id=2)))
    for path, sentence in [
        ("/projects/2/versions/p1-v1", "Version 'p1-v1' was trained for project 1, not for 2."),
        ("/projects/1/versions/nothing", "There is no model version 'nothing'"),
        ("/projects/9/versions/p1-v1", "There is no project 9 here."),
        ("/projects/2/attention/0/p1-v2", "Version 'p1-v2' was trained for project 1, not for 2."),
    ]:
        answer = client.get(path, headers=BROWSER)
        assert (answer.status_code, sentence in said(answer.get_data(as_text=True))) == (404, True), path


def test_a_version_whose_files_are_gone_has_a_page(client: FlaskClient, services: Services, tmp_path: Path) -> None:
    services.registry.register(
        ModelVersion("p1-v3", tmp_path / "gone", 1, "p1-v2", tmp_path / "gone" / "manifest.jsonl", "1-9")
    )
    shown = said(page(client, "p1-v3"))
    assert "Trained by unknown, because the checkpoint cannot be read" in shown
    assert "There are no attention maps here: the checkpoint is not on this machine." in shown


def test_the_manifest_of_a_large_project_is_not_read_each_time(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page(client, "p1-v2")
    monkeypatch.setattr("training.data.manifest.hash_file", lambda path: pytest.fail("It was read again."))
    monkeypatch.setattr("training.data.manifest.load", lambda path: pytest.fail("It was read."))
    assert "Unchanged yes, sha256" in said(page(client, "p1-v2"))
    monkeypatch.undo()
    path = tmp_path / "snapshots" / "1-7" / "manifest.jsonl"
    path.write_text(path.read_text() + "\n")
    assert "Unchanged no: The manifest" in said(page(client, "p1-v2"))
