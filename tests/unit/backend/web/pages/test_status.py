"""What the overview and the page of a project tell, and that it takes no longer the more corrections there are."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from PIL import Image, ImageOps

from backend.domain.corrections import DraftFailure
from backend.images.thumbnails import here, thumbnail
from backend.queue import DRAFTS, RETRAINS
from backend.reports.overview.gallery import Piece, differences
from backend.reports.status import report, text
from backend.store.registry import DEFAULT, DROPPED, NEW, REJECTED, ModelVersion
from backend.store.retrains import DONE
from backend.store.tables import alias_moves
from backend.web.app import create_app
from backend.web.services import Services
from tests import factories
from tests.factories import correction, draft, promoted, saved, served
from tests.lively import PAIRS, begin, finish, lively, verdict
from tests.pages import parsed, texts_of
from tests.steps import steps

BROWSER = {"Accept": "text/html,*/*;q=0.8"}
TRAINING = {"phase": "train", "epoch": 3, "epochs": 10, "step": 5, "steps": 10, "loss": 2.3, "phase_seconds": 25.0}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return factories.backend(tmp_path, CAPTIONER_RETRAIN_EVERY="50")


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Services:
    """A project in the middle of its life, of which no retrain runs; for tests that only read."""
    services = factories.backend(tmp_path_factory.mktemp("data"), CAPTIONER_RETRAIN_EVERY="50")
    finish(services, lively(services), DONE, "p1-v6 is held.")
    return services


@pytest.fixture
def pages(lived: Services) -> FlaskClient:
    return create_app(lived).test_client()


def told(client: FlaskClient, path: str = "/projects/1") -> str:
    """All texts of the page, one after another."""
    answer = client.get(path, headers=BROWSER)
    assert answer.status_code == 200
    return " ".join(texts_of(answer.get_data(as_text=True)))


def test_a_lead_finds_what_serves_what_is_kept_and_when_the_next_model_comes(
    pages: FlaskClient, lived: Services
) -> None:
    page = told(pages)
    assert re.search(r"Serves p1-v5 since \d{4}-\d\d-\d\d \d\d:\d\d UTC , \d+ s ago", page)
    kept = sum(before == after for before, after in PAIRS)
    assert f"Drafts kept unchanged {100 * kept / len(PAIRS):.0f}% of {len(PAIRS)} corrected drafts by p1-v5" in page
    assert re.search(r"Words edited \d\.\d a draft \d+ of 100 words", page)
    left = lived.store.corrections_until_retrain(1, 50)
    assert f"Until the next model {left} captions more to correct" in page
    assert "A retrain takes about 3 min as the last ones did" in page
    verdict = (
        "p1-v5 was promoted: it is at least as good as p1-v2. On 180 held-out captions its BLEU-4 is 24.9, that of"
    )
    assert f"Last verdict {verdict} p1-v2 22.3." in page
    assert "Held out 180 judged the last candidate" in page
    overview = told(pages, "/")
    assert "Serves p1-v5 since" in overview
    assert f"after {left} more captions" in overview


def test_its_figures_are_those_of_captioner_status(pages: FlaskClient, lived: Services) -> None:
    [project] = report(lived.settings)["projects"]
    page = told(pages)
    assert f"In {project['corrections']} usable" in page
    assert f"Waiting {project['new']} for the next retrain" in page
    assert f"{project['retrain_in']} captions" in page
    for each in project["drafts_by_version"]:
        assert f"{each['version']} {each['kept_share']:.0%} (" in page
        assert f"{each['version']} {100 * each['edits']:.0f} " in page
    assert f"{project['champion']}" in text(report(lived.settings))


def test_a_running_retrain_tells_its_phase_and_when_it_ends(client: FlaskClient, services: Services) -> None:
    services.store.renew_retrain(lively(services), TRAINING)
    for path in ("/projects/1", "/projects/1/now"):
        page = told(client, path)
        assert "runs: training, epoch 3 of 10, step 5 of 10, loss 2.300." in page
        assert re.search(r"\d+% of the retrain", page)
        assert re.search(r"This phase ends in about \d+ s, ", page)
        assert "if it takes as long as the last ones (3 min)" in page
        assert "Then interpolating with the champion's weights, evaluating" in page
    whole = client.get("/projects/1", headers=BROWSER).get_data(as_text=True)
    assert '<noscript><meta http-equiv="refresh"' in whole


def test_before_anything_has_happened_the_page_says_so(client: FlaskClient, services: Services) -> None:
    services.store.save_project(1, "<View/>")
    page = told(client)
    for sentence in (
        "Serves no version yet",
        "Until the next (first) model 25 captions",
        "A retrain takes unknown none has succeeded yet",
        "No version of this project has been judged yet.",
        "None is queued or running.",
        "No draft has been corrected yet.",
        "None began as a draft of a version yet.",
    ):
        assert sentence in page
    assert "refresh" not in client.get("/projects/1", headers=BROWSER).get_data(as_text=True)


def test_where_only_a_person_begins_retrains_it_says_so(tmp_path: Path) -> None:
    services = factories.backend(tmp_path, CAPTIONER_RETRAIN_EVERY="0")
    services.store.save_project(1, "<View/>")
    assert "by hand Start Training in Label Studio's settings begins it" in told(create_app(services).test_client())


def test_a_champion_that_is_loading_or_cannot_be_loaded_is_told(client: FlaskClient, services: Services) -> None:
    services.store.save_project(1, "<View/>")
    promoted(services, "v1")
    served(services, "v1")
    promoted(services, "v2")
    assert "it is being loaded; v1 still serves" in told(client)
    services.champions._refused[1] = "The checkpoint v2 is damaged."
    page = told(client)
    assert "it cannot be loaded; v1 still serves" in page
    assert "The champion cannot be loaded The checkpoint v2 is damaged." in page
    assert "captioner rollback --project 1" in page


def test_what_failed_is_told_with_why_and_what_to_do(pages: FlaskClient, lived: Services) -> None:
    lived.store.save_failure(1, "Label Studio refuses the token.")
    page = told(pages)
    failed = page[page.index("What failed lately") : page.index("Corrections")]
    for what, why in (
        ("The queue does not answer", "Redis cannot be reached"),
        ("failed", "The disk is full."),
        ("could not be asked for missed changes", "Label Studio refuses the token."),
        ("1 task without a draft (9)", "The image /data/upload/1/9.jpg is not there (404)."),
    ):
        assert what in failed
        assert why in failed
    assert failed.count("To do:") == 5


@pytest.mark.parametrize(
    ("takes", "sentence"),
    [
        ((), "No worker runs A retrain or another job waits, and nobody is there to do it."),
        ((DRAFTS,), "Some jobs have no worker Every worker runs with --only, and none of them takes what retrains."),
        ((RETRAINS,), "none of them takes what drafts or is compared with Label Studio."),
        ((DRAFTS, RETRAINS), "What failed lately Nothing."),
    ],
)
def test_jobs_that_no_worker_takes_are_told(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch, takes: tuple[str, ...], sentence: str
) -> None:
    services.store.record(saved(correction(1)))
    services.store.request_retrain(1, asked=True, every=0)
    waiting = {"waiting": 2, "scheduled": 0, "running": 0, "failed": 0}
    monkeypatch.setattr(services.queue, "depths", lambda: waiting)
    monkeypatch.setattr(services.queue, "workers", lambda: len(takes))
    monkeypatch.setattr(services.queue, "alive", lambda name=None: len(takes) if name is None else name in takes)
    assert sentence in told(client, "/projects/1/now")


def test_many_tasks_without_a_draft_are_counted_and_a_few_named(client: FlaskClient, services: Services) -> None:
    services.store.save_project(1, "<View/>")
    services.store.add_failures(1, [DraftFailure(1, id, "The host is away.") for id in range(1, 31)])
    assert "30 tasks without a draft (1, 2, 3, 4, 5 and 25 more) The host is away." in told(client)


def test_how_far_drafts_lag_is_told_where_they_follow_corrections(tmp_path: Path) -> None:
    """Elsewhere it would only grow."""
    key = {"LABEL_STUDIO_URL": "http://127.0.0.1:9", "LABEL_STUDIO_API_KEY": "key"}
    for given, words in ((key, "by "), ({}, "they follow no correction: that takes LABEL_STUDIO_URL ,")):
        services = factories.backend(tmp_path / str(len(given)), **given)
        promoted(services, "v1")
        services.store.record(saved(correction(1)))
        assert f"Drafts lag behind {words}" in told(create_app(services).test_client(), "/projects/1/now")


def test_a_few_reasons_stand_for_all_and_a_count_that_ends_early_says_so(
    client: FlaskClient, services: Services
) -> None:
    services.store.save_project(1, "<View/>")
    gone = [DraftFailure(1, id, f"The image {id}.jpg is not there (404).") for id in range(1, 101)]
    services.store.add_failures(1, gone)
    page = told(client, "/projects/1/now")
    assert page.count("without a draft") == 5
    assert (
        "96 tasks without a draft (1, 2, 3, 4, 5 and 91 more) Of 96 further reasons this is one: The image 96." in page
    )
    services.store.add_failures(1, [DraftFailure(1, id, "The host is away.") for id in range(1, 102)])
    assert "100 tasks or more without a draft (2, 3, 4, 5, 6 and 95 more) The host is away." in told(client)


def test_a_default_champion_that_cannot_be_loaded_is_told_too(
    client: FlaskClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.store.save_project(1, "<View/>")
    promoted(services, "starter", DEFAULT)
    services.champions._refused[DEFAULT] = "The starter is damaged."
    assert "The champion cannot be loaded The starter is damaged." in told(client)
    shown = told(client, "/projects/1/versions/starter")
    assert "It is the champion of project 1 and not served: The starter is damaged." in shown
    loaded = {"serving": {}, "refused": {"0": "The starter is damaged."}, "database": services.store.identity}
    monkeypatch.setattr("backend.reports.status.serving", lambda _: loaded)
    assert "not served   The starter is damaged." in text(report(services.settings))


def test_the_default_champion_serves_a_project_again_since_its_own_was_taken_back(
    client: FlaskClient, services: Services
) -> None:
    services.store.save_project(1, "<View/>")
    promoted(services, "starter", DEFAULT)
    promoted(services, "v1")
    services.registry.rollback(1)
    with services.store.writing(DEFAULT) as connection:
        of_default = sa.update(alias_moves).where(alias_moves.c.project_id == DEFAULT)
        connection.execute(of_default.values(moved_at=factories.LONG_AGO))
    page = told(client)
    assert "Serves starter since" in page
    assert f"since {factories.LONG_AGO:%Y-%m-%d}" not in page


def test_quarantined_corrections_are_counted(client: FlaskClient, services: Services, tmp_path: Path) -> None:
    services.store.save_project(1, "<View/>")
    for number, state in enumerate([REJECTED, DROPPED, "released"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / NEW).write_text("{}\n" * (number + 2))
        version = ModelVersion(f"v{number}", folder, 1, manifest=folder / "manifest.jsonl", state=state)
        services.registry.register(version)
    assert "Quarantined 5 images" in told(client)
    (tmp_path / "0" / NEW).write_text("{}\n")
    assert "Quarantined 4 images" in told(client), "one was forgotten meanwhile"


def test_the_chart_marks_verdicts_and_versions_link_to_their_pages(pages: FlaskClient) -> None:
    page = pages.get("/projects/1", headers=BROWSER).get_data(as_text=True)
    assert '<circle class="ring"' in page, "held"
    assert '<path class="cross"' in page, "rejected"
    assert "p1-v5, promoted: BLEU-4 24.9 (23.1–26.7) on 180 held-out captions" in page
    assert "p1-v1, promoted: BLEU-4 18.2 on 40 held-out captions" in page, "there was no champion to differ from"
    assert {f"/projects/1/versions/p1-v{number}" for number in range(1, 6)} <= set(parsed(page).addresses)


def test_a_verdict_that_no_release_can_read_is_told(client: FlaskClient, services: Services) -> None:
    services.registry.register(ModelVersion("p1-v1", Path("x"), 1, verdict={"pairs": 3}, state=REJECTED))
    services.store.save_project(1, "<View/>")
    assert "The verdict on p1-v1 is of another release and cannot be read." in told(client)


@pytest.mark.parametrize(
    ("decision", "state", "words"),
    [
        ("hold", "held", "was held: too few captions tell whether it is better than p1-v0. About 40 more held-out"),
        ("reject", "rejected", "was rejected: it is worse than p1-v0. What it was the first to learn is quarantined."),
        ("reject", "released", "has been released and may be learned again."),
        ("promote", "passed", "passed, and waits for a person to promote it."),
        ("reject", "passed", "was promoted; judged again on more captions, it is worse than p1-v0. On 120 held-out"),
    ],
)
def test_verdicts_are_told_in_plain_words(client: FlaskClient, services: Services, decision, state, words) -> None:
    services.store.save_project(1, "<View/>")
    found = verdict(decision, 20.0, 21.0, more_pairs=40).to_json()
    services.registry.register(ModelVersion("p1-v1", Path("x"), 1, "p1-v0", verdict=found, state=state))
    assert words in told(client)


@pytest.mark.parametrize(("decision", "state"), [("hold", "held"), ("reject", "rejected")])
def test_few_captions_are_not_said_to_say_little_where_they_reject(
    client: FlaskClient, services: Services, decision, state
) -> None:
    services.store.save_project(1, "<View/>")
    found = verdict(decision, 20.0, 21.0, pairs=6).to_json()
    services.registry.register(ModelVersion("p1-v1", Path("x"), 1, "p1-v0", verdict=found, state=state))
    assert ("So few say little yet." in told(client)) == (state == "held")


def test_examples_show_words_that_were_added_and_taken_away(pages: FlaskClient) -> None:
    page = pages.get("/projects/1", headers=BROWSER).get_data(as_text=True)
    assert "A <del>man</del> <ins>woman</ins> in a red shirt." in page
    assert "&lt;b&gt;smiles&lt;/b&gt;" in page
    assert "<b>smiles" not in page
    assert "一个<del>男</del><ins>女</ins>人在骑自行车" in page


def test_differences_are_whole_texts_again() -> None:
    draft, caption = "A man  rides a horse.", "A woman rides a brown horse"
    pieces = list(differences(draft, caption))
    assert "".join(text for kind, text in pieces if kind != "deleted") == caption
    assert Piece("same", "rides a ") in pieces
    assert list(differences("same", "same")) == [Piece("same", "same")]


def test_a_full_stop_that_moves_changes_no_word() -> None:
    longer = differences("A dog on a beach.", "A dog on a beach in the sun.")
    assert list(longer) == [Piece("same", "A dog on a beach "), Piece("inserted", "in the sun"), Piece("same", ".")]
    shorter = differences("A dog on a beach in the sun.", "A dog on a beach.")
    assert list(shorter) == [Piece("same", "A dog on a beach"), Piece("deleted", "in the sun"), Piece("same", ".")]


def test_differences_keep_marks_with_their_letters() -> None:
    assert list(differences("กา", "ก่า")) == [Piece("deleted", "ก"), Piece("inserted", "ก่"), Piece("same", "า")]
    assert "".join(text for kind, text in differences("ผู้ชาย 2 คน", "ผู้หญิง 2 คน") if kind != "deleted") == "ผู้หญิง 2 คน"


def test_thumbnails_are_of_cached_images_only(pages: FlaskClient, lived: Services) -> None:
    page = pages.get("/projects/1", headers=BROWSER).get_data(as_text=True)
    pictures = [address for address in parsed(page).addresses if address.startswith("/images/")]
    assert 0 < len(pictures) < page.count('class="caption"')
    answer = pages.get(pictures[0])
    assert (answer.status_code, answer.mimetype, answer.data[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
    assert "private, max-age=31536000" in answer.headers["Cache-Control"]
    for name in ("f" * 64, "..%2f..%2fcaptioner.db", "A" * 64, "0" * 63):
        assert pages.get(f"/images/{name}").status_code == 404
    damaged = here(lived.settings.data_dir, pictures[0].rpartition("/")[2])
    assert damaged is not None
    damaged.write_bytes(b"no image")
    assert pages.get(pictures[0]).status_code == 404


def test_one_thumbnail_is_made_at_a_time(lived: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page asks for a dozen at once, and each may take hundreds of megabytes."""
    path = next((lived.settings.data_dir / "images").glob("*/*.jpg"))
    upright, both = ImageOps.exif_transpose, threading.Barrier(2)

    def meeting(image: Image.Image) -> Image.Image:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return upright(image)

    monkeypatch.setattr(ImageOps, "exif_transpose", meeting)
    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(thumbnail, [path, path]))
    assert both.broken, "two were in memory together"


def test_a_number_that_no_project_can_have_is_no_project(pages: FlaskClient) -> None:
    for path in ("", "/now", "/versions/v1", "/attention/0/v1", "/promote/v1", "/rollback"):
        assert pages.get(f"/projects/{2**63}{path}", headers=BROWSER).status_code == 404


def shown(client: FlaskClient, path: str) -> None:
    assert client.get(path, headers=BROWSER).status_code == 200


def test_a_page_takes_no_longer_the_more_corrections_there_are(tmp_path: Path) -> None:
    found: dict[str, list[int]] = {}
    for number in (100, 700):
        services = factories.backend(tmp_path / str(number), CAPTIONER_RETRAIN_EVERY="10")
        promoted(services, "v0")
        services.store.add_drafts(1, [draft(1000, "v0")])
        services.store.record(saved(correction(1000)))
        promoted(services, "v1")
        services.store.add_drafts(1, [draft(id) for id in range(number)])
        services.store.record(saved(*(correction(id) for id in range(number))))
        finish(services, begin(services, 1), DONE, "v1 is promoted.")
        for path in ("/", "/projects/1", "/projects/1/now", "/projects/1/versions/v0"):
            client = create_app(services).test_client()
            found.setdefault(path, []).append(steps(services.store, partial(shown, client, path)))
    for path, (few, many) in found.items():
        assert many < 1.2 * few + 5, path
