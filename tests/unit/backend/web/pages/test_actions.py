"""Promotion and rollback on the status page: what is asked, what comes of it, and what changes nothing."""

from __future__ import annotations

import io
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backend.store.registry import DEFAULT, ModelVersion
from backend.web.app import create_app
from backend.web.pages import forms
from backend.web.services import Services
from tests import factories
from tests.factories import checkpoint, correction, saved
from tests.pages import parsed, texts_of
from training.gate.verdict import Verdict

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
AUTH = ("label", "studio:x")
PASSWORD = {"BASIC_AUTH_USER": "label", "BASIC_AUTH_PASS": "studio:x"}
HELD = Verdict("hold", True, "perhaps worse; 9 more pairs are needed to judge it", 9, None, None, 1.0).to_json()


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Project 1 with two versions, of which the second serves; a third was held. Project 2 has one of its own."""
    services = factories.backend(tmp_path, **PASSWORD)
    services.store.record(saved(correction(1)))
    services.store.record(saved(correction(2, project_id=2)))
    register(services, "p1-v1", 1)
    register(services, "p1-v2", 1, parent="p1-v1")
    register(services, "p1-v3", 1, parent="p1-v2", verdict=HELD, state="held")
    register(services, "p2-v1", 2)
    for version in ("p1-v1", "p1-v2"):
        services.registry.promote(1, version, reason="better", by="gate")
    return services


@pytest.fixture
def client(services: Services) -> FlaskClient:
    return create_app(services).test_client()


def register(services: Services, name: str, project_id: int | None, **fields: Any) -> None:
    folder = checkpoint(services.settings.data_dir / "models" / str(abs(hash(name))))
    services.registry.register(ModelVersion(name, folder, project_id, **fields))


def get(client: FlaskClient, path: str) -> TestResponse:
    return client.get(path, headers=BROWSER, auth=AUTH)


def said(answer: TestResponse) -> str:
    return " ".join(texts_of(answer.get_data(as_text=True)))


def form_of(page: TestResponse) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.get_data(as_text=True))
    return {name: unescape(value) for name, value in found}


def post(client: FlaskClient, path: str, form: dict[str, str], **headers: str) -> TestResponse:
    given = {"Sec-Fetch-Site": "same-origin", **{name.replace("_", "-"): text for name, text in headers.items()}}
    sent = {name: text for name, text in {**BROWSER, **given}.items() if text}
    return client.post(path, data=form, headers=sent, auth=AUTH)


def confirmed(client: FlaskClient, path: str, **changed: str) -> TestResponse:
    """What the page at `path` answers to its own form."""
    return post(client, path, form_of(get(client, path)) | changed)


def test_a_promotion_is_asked_about_done_noted_and_can_be_undone(client: FlaskClient, services: Services) -> None:
    asked = get(client, "/projects/1/promote/p1-v3")
    assert asked.status_code == 200
    for sentence in (
        "p1-v2 serves project 1 now.",
        "p1-v3 will serve it, for every draft from then on.",
        "p1-v3 was held: too few captions tell whether it is better than p1-v2.",
    ):
        assert sentence in said(asked)
    assert services.registry.champions() == {1: "p1-v2"}, "to ask changes nothing"
    done = confirmed(client, "/projects/1/promote/p1-v3", reason="  better at\nnight ")
    assert done.status_code == 303
    assert services.registry.champions() == {1: "p1-v3"}
    move = services.registry.moves(1)[0]
    assert (move.version, move.moved_by, move.reason) == ("p1-v3", "status page", "better at night")
    after = get(client, done.location)
    assert "p1-v3 is now the champion of project 1. To undo it: Roll back to p1-v2" in said(after)
    assert "/projects/1/rollback" in parsed(after.get_data(as_text=True)).addresses


def test_a_rollback_is_asked_about_done_noted_and_can_be_undone(client: FlaskClient, services: Services) -> None:
    asked = get(client, "/projects/1/rollback")
    assert "p1-v2 serves project 1 now." in said(asked)
    assert "p1-v1 will serve it again" in said(asked)
    assert services.registry.champions() == {1: "p1-v2"}
    done = confirmed(client, "/projects/1/rollback")
    assert services.registry.champions() == {1: "p1-v1"}
    assert (services.registry.moves(1)[0].moved_by, services.registry.moves(1)[0].reason) == (
        "status page",
        "rolled back",
    )
    after = get(client, done.location)
    assert "p1-v1 serves project 1 again. To undo it: Promote p1-v2" in said(after)
    assert confirmed(client, "/projects/1/promote/p1-v2").status_code == 303
    assert services.registry.champions() == {1: "p1-v2"}


def test_a_rollback_to_nothing_says_what_that_means(client: FlaskClient, services: Services) -> None:
    services.registry.rollback(1)
    asked = get(client, "/projects/1/rollback")
    assert "Nothing served project 1 before p1-v1: without it, tasks open with empty text boxes." in said(asked)
    done = confirmed(client, "/projects/1/rollback")
    assert services.registry.champions() == {}
    assert "Nothing serves project 1 now. To undo it: Promote p1-v1" in said(get(client, done.location))
    assert get(client, "/projects/1/rollback").status_code == 409
    again = confirmed(client, "/projects/1/promote/p1-v1")
    assert (again.status_code, services.registry.champions()) == (303, {1: "p1-v1"})


def test_before_a_champion_of_its_own_the_default_one_serves_again(client: FlaskClient, services: Services) -> None:
    register(services, "starter", None)
    services.registry.promote(DEFAULT, "starter", reason="chosen", by="operator")
    services.registry.rollback(1)
    assert "starter will serve it again" in said(get(client, "/projects/1/rollback"))
    done = confirmed(client, "/projects/1/rollback")
    assert "starter serves project 1 again." in said(get(client, done.location))
    assert "starter is the champion of project 1 already." in said(get(client, "/projects/1/promote/starter"))


def test_the_project_page_says_what_came_of_it_only_after_an_action_of_its_own(
    client: FlaskClient, services: Services
) -> None:
    assert "is now the champion" not in said(get(client, "/projects/1?moved=promoted")), "the gate did that"
    confirmed(client, "/projects/1/promote/p1-v3")
    assert "is now the champion" not in said(get(client, "/projects/1"))
    assert "is now the champion" not in said(get(client, "/projects/1?moved=<script>"))


def test_a_version_that_waits_for_a_person_can_be_promoted_from_the_page_of_the_project(
    client: FlaskClient, services: Services
) -> None:
    assert "Promote" not in said(get(client, "/projects/1")), "p1-v3 is held"
    passed = Verdict("promote", False, "better", 120, None, None, 1.0).to_json()
    register(services, "p1-v4", 1, parent="p1-v2", verdict=passed, state="passed")
    assert "Promote p1-v4… Roll back to p1-v1…" in said(get(client, "/projects/1"))
    confirmed(client, "/projects/1/promote/p1-v4")
    assert "Promote" not in said(get(client, "/projects/1"))


@pytest.mark.parametrize("path", ["/projects/1/promote/p1-v3", "/projects/1/rollback"])
def test_what_is_not_sent_by_its_page_changes_nothing(client: FlaskClient, services: Services, path: str) -> None:
    form = form_of(get(client, path))
    other = form_of(get(client, "/projects/1/promote/p1-v1"))["token"]
    wrong = [form | {"token": token} for token in ("", "x", "9999999999.x", f"{form['token']}0", other)]
    wrong += [{}, {name: value for name, value in form.items() if name != "token"}]
    wrong += [form | {"before": "p1-v1"}, form | {"before": ""}]
    wrong += [form | {"after": "p1-v3"}] if path.endswith("rollback") else []
    for given in wrong:
        answer = post(client, path, given)
        assert (answer.status_code, "so nothing was changed" in said(answer)) == (403, True), given
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "", "Origin": "https://elsewhere.test"}):
        answer = post(client, path, form, **headers)
        assert (answer.status_code, "A page of another site" in said(answer)) == (403, True)
    without = client.post(path, data=form, headers={**BROWSER, "Sec-Fetch-Site": "same-origin"})
    assert without.status_code == 401
    what = ["promote", "1", "p1-v2", "p1-v3"] if "promote" in path else ["rollback", "1", "p1-v2", "p1-v1"]
    late = post(client, path, form | {"token": forms.token(forms.key(*AUTH), *what, now=0)})
    assert (late.status_code, "more than an hour ago" in said(late)) == (403, True)
    assert services.registry.champions() == {1: "p1-v2"}
    assert len(services.registry.moves(1)) == 2
    assert post(client, path, form).status_code == 303, "the same form, as its page sends it"


def test_what_is_answered_late_undoes_no_other_move(client: FlaskClient, services: Services) -> None:
    promote, rollback = (form_of(get(client, f"/projects/1/{path}")) for path in ("promote/p1-v3", "rollback"))
    services.registry.promote(1, "p1-v1", reason="better at night", by="operator")
    for path, form in (("promote/p1-v3", promote), ("rollback", rollback)):
        answer = post(client, f"/projects/1/{path}", form)
        assert answer.status_code == 409
        assert "p1-v1 has come to serve project 1 since you were asked; nothing was changed." in said(answer)
    assert services.registry.champions() == {1: "p1-v1"}
    services.registry.promote(1, "p1-v2", reason="better by day", by="operator")  # serves again, over another one
    undone = post(client, "/projects/1/rollback", rollback)
    assert (undone.status_code, services.registry.champions()) == (303, {1: "p1-v1"}), "which is what was asked about"


def test_a_rollback_that_would_go_elsewhere_than_asked_is_not_done(client: FlaskClient, services: Services) -> None:
    form = form_of(get(client, "/projects/1/rollback"))
    for version in ("p1-v3", "p1-v2"):
        services.registry.promote(1, version, reason="a trial", by="operator")
    answer = post(client, "/projects/1/rollback", form)
    assert (answer.status_code, services.registry.champions()) == (409, {1: "p1-v2"})


def test_a_version_whose_files_are_gone_is_not_promoted(client: FlaskClient, services: Services) -> None:
    form = form_of(get(client, "/projects/1/promote/p1-v3"))
    shutil.rmtree(services.registry.get("p1-v3").checkpoint)
    asked = get(client, "/projects/1/promote/p1-v3")
    assert "p1-v3 cannot serve: There is no checkpoint folder" in said(asked)
    assert form_of(asked) == {}
    answer = post(client, "/projects/1/promote/p1-v3", form)
    assert (answer.status_code, "p1-v3 cannot serve" in said(answer)) == (409, True)
    form = form_of(get(client, "/projects/1/rollback"))
    shutil.rmtree(services.registry.get("p1-v1").checkpoint)
    assert post(client, "/projects/1/rollback", form).status_code == 409
    assert services.registry.champions() == {1: "p1-v2"}


def test_versions_of_other_projects_and_unknown_ones_are_not_promoted(client: FlaskClient, services: Services) -> None:
    for path, sentence in [
        ("/projects/1/promote/p2-v1", "Version 'p2-v1' was trained for project 2, not for 1."),
        ("/projects/1/promote/p9-v9", "There is no model version 'p9-v9'"),
        ("/projects/7/promote/p1-v1", "There is no project 7 here."),
        ("/projects/0/promote/p1-v1", "There is no project 0 here."),
        ("/projects/0/rollback", "There is no project 0 here."),
        ("/projects/7/rollback", "There is no project 7 here."),
    ]:
        asked = get(client, path)
        assert (asked.status_code, sentence in said(asked)) == (404, True), path
        project, name = path.split("/")[2], path.split("/")[-1]
        token = forms.token(forms.key(*AUTH), "promote", project, "p1-v2", name)
        assert post(client, path, {"token": token, "before": "p1-v2"}).status_code in {403, 404}
    assert services.registry.champions() == {1: "p1-v2"}


def test_another_machine_may_answer_the_form(client: FlaskClient, services: Services, tmp_path: Path) -> None:
    """Web processes share the database and the password, and no disk."""
    page = form_of(get(client, "/projects/1/promote/p1-v3"))
    there = tmp_path / "there"
    there.mkdir()
    (there / "models").symlink_to(services.settings.data_dir / "models")  # fetched from the store
    other = factories.backend(there, **PASSWORD, DATABASE_URL=services.settings.database_url)
    answer = post(create_app(other).test_client(), "/projects/1/promote/p1-v3", page)
    assert (answer.status_code, services.registry.champions()) == (303, {1: "p1-v3"})


@pytest.mark.parametrize("name", ["a/b", "a//b", "a b?c=d#e", "<i>'\"&amp;</i>", "Ünïcode-版本", "a%2Fb", "promote/x"])
def test_any_name_of_a_version_can_be_promoted(client: FlaskClient, services: Services, name: str) -> None:
    register(services, name, 1)
    page = get(client, "/projects/1").get_data(as_text=True)
    assert "<i>" not in page
    with client.application.test_request_context():
        path = client.application.url_for("pages.promote", project_id=1, name=name)
    asked = get(client, path)
    assert f"{' '.join(name.split())} will serve it" in said(asked)
    assert "<i>" not in asked.get_data(as_text=True)
    done = post(client, path, form_of(asked))
    assert done.status_code == 303
    assert services.registry.champions() == {1: name}
    after = get(client, done.location)
    assert f"{name} is now the champion of project 1." in said(after)
    assert "<i>" not in after.get_data(as_text=True)


def test_without_a_password_pages_name_the_commands_and_nothing_can_be_sent(tmp_path: Path) -> None:
    services = factories.backend(tmp_path)
    services.store.record(saved(correction(1)))
    for version in ("p1-v1", "p1-v2"):
        register(services, version, 1)
        services.registry.promote(1, version, reason="better", by="gate")
    client = create_app(services).test_client()
    for path, command in [
        ("/projects/1", f"captioner rollback --project 1 --data-dir {tmp_path}"),
        ("/projects/1/rollback", f"captioner rollback --project 1 --data-dir {tmp_path}"),
        ("/projects/1/promote/p1-v1", f"captioner promote p1-v1 --project 1 --data-dir {tmp_path}"),
        ("/projects/1/versions/p1-v1", f"captioner promote p1-v1 --project 1 --data-dir {tmp_path}"),
    ]:
        answer = client.get(path, headers=BROWSER)
        assert (answer.status_code, command in said(answer)) == (200, True), path
        assert "<button" not in answer.get_data(as_text=True)
    for path in ("promote/p1-v1", "rollback"):
        token = forms.token(forms.key(*AUTH), path.partition("/")[0], "1", "p1-v2", "p1-v1")
        form = {"before": "p1-v2", "after": "p1-v1", "token": token}
        answer = client.post(f"/projects/1/{path}", data=form, headers={**BROWSER, "Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 403
        assert "BASIC_AUTH_USER and BASIC_AUTH_PASS are not set; nothing was changed." in said(answer)
    assert services.registry.champions() == {1: "p1-v2"}


def test_no_page_can_be_framed_and_get_never_changes_anything(client: FlaskClient, services: Services) -> None:
    for path in ("promote/p1-v3", "rollback", "versions/p1-v2"):
        answer = get(client, f"/projects/1/{path}")
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        query = "&".join(f"{name}={value}" for name, value in form_of(answer).items())
        assert get(client, f"/projects/1/{path}?{query}").status_code == 200
    assert len(services.registry.moves(1)) == 2


def test_a_form_that_is_no_form_is_a_sentence(client: FlaskClient, services: Services) -> None:
    path = "/projects/1/rollback"
    form = form_of(get(client, path))
    assert post(client, path, form | {"reason": "x" * 100_000}).status_code == 413
    many = post(client, path, form | {f"field{n}": "x" for n in range(30)})
    assert (many.status_code, "more than 20 fields" in said(many)) == (400, True)
    cut = client.post(path, data=b"", environ_overrides={"wsgi.input": Cut(), "CONTENT_LENGTH": "9"}, auth=AUTH)
    assert (cut.status_code, cut.get_json()["error"][:32]) == (400, "The request body cannot be read:")
    for data in (b"\xff\xfe=%ff&token=%00", b"{}", b"&&&==="):
        assert client.post(path, data=data, auth=AUTH).status_code == 403
    assert services.registry.champions() == {1: "p1-v2"}


class Cut(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise OSError("the other end is gone")
