from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backend.domain.errors import LabelStudioError, LabelStudioRefusalError
from backend.label_studio import client as client_module
from demo.browser import Browser

LEGACY, PERSONAL = "0" * 40, "eyJhbGciOiJIUzI1NiJ9.e30.signature"


@pytest.fixture
def client(label_studio: Any) -> Browser:
    return Browser(f"{label_studio.url}/", LEGACY)


def test_a_call_carries_the_token(label_studio: Any, client: Browser) -> None:
    assert client.project(3)["id"] == 3
    (call,) = label_studio.calls
    assert (call.path, call.authorization) == ("/api/projects/3", f"Token {LEGACY}")


def test_credentials_in_netrc_do_not_replace_the_token(
    label_studio: Any, client: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    client.project(3)
    Browser(label_studio.url, PERSONAL).project(3)
    assert [call.authorization for call in label_studio.calls] == [f"Token {LEGACY}", None, "Bearer access-1"]


def test_an_access_token_that_died_early_is_replaced_once(label_studio: Any) -> None:
    client = Browser(label_studio.url, PERSONAL)
    client.project(3)
    label_studio.access = 7  # as after a restart with another secret
    assert client.project(3)["id"] == 3
    assert label_studio.calls[-1].authorization == "Bearer access-8"


def test_an_upload_is_sent_whole_again_after_a_dead_access_token(label_studio: Any, tmp_path: Path) -> None:
    client = Browser(label_studio.url, PERSONAL)
    client.project(3)
    label_studio.access = 7
    (tmp_path / "a.png").write_bytes(b"picture-bytes")
    assert client.upload_images(3, [tmp_path / "a.png"]) == [1]
    uploads = [call.body for call in label_studio.calls if call.path.endswith("/import")]
    assert [b"picture-bytes" in body for body in uploads] == [True, True]


def test_images_go_up_in_batches_by_number_and_size(
    label_studio: Any, client: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "UPLOAD_FILES", 3)
    monkeypatch.setattr(client_module, "UPLOAD_BYTES", 50)
    paths = []
    for number, size in enumerate([10, 10, 10, 10, 45, 60, 1]):
        paths.append(tmp_path / f"{number} é.png")
        paths[-1].write_bytes(b"x" * size)
    assert client.upload_images(3, paths) == [1, 2, 3, 4, 5, 6, 7]
    assert [call.body.count(b"filename") for call in label_studio.calls] == [3, 1, 1, 1, 1]
    assert client.upload_images(3, []) == []


def test_every_page_of_tasks_is_read(label_studio: Any, client: Browser) -> None:
    ids = client.import_tasks(3, [{"data": {"image": f"http://a/{n}"}} for n in range(7)])
    assert [task["id"] for task in client.tasks(3, page_size=3)] == ids == list(range(1, 8))
    assert [call.params["page"] for call in label_studio.calls if call.path == "/api/tasks"] == ["1", "2", "3"]


def test_no_tasks_are_one_page(label_studio: Any, client: Browser) -> None:
    assert list(client.tasks(3)) == []


def test_the_label_stream_may_be_empty(label_studio: Any, client: Browser) -> None:
    label_studio.answers["GET", "/api/projects/3/next"] = (404, {"detail": "There are no tasks."})
    assert client.next_task(3) is None


def test_batch_predictions_names_the_tasks(label_studio: Any, client: Browser) -> None:
    label_studio.answers["POST", "/api/dm/actions"] = (200, {"processed_items": 2})
    client.retrieve_predictions(3, [4, 5])
    client.retrieve_predictions(3)
    some, every = (call.body["selectedItems"] for call in label_studio.calls)
    assert some == {"all": False, "included": [4, 5]}
    assert every == {"all": True, "excluded": []}


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        (
            "legacy_tokens_off",
            "legacy tokens are off.*LABEL_STUDIO_API_KEY to a personal access token",
        ),
        ("title_too_short", "400.*title: Ensure this field has at least 3 characters"),
        ("unknown_model_version", "model_version: Model version doesn't exist"),
    ],
)
def test_refusals_are_sentences(label_studio: Any, client: Browser, refusal: str, sentence: str) -> None:
    label_studio.refused["GET", "/api/projects"] = refusal
    with pytest.raises(LabelStudioRefusalError, match=sentence) as caught:
        client.projects()
    assert "\n" not in str(caught.value)
    assert caught.value.status in {400, 401}


def test_a_wrong_legacy_token(label_studio: Any) -> None:
    with pytest.raises(LabelStudioRefusalError, match=r"refuses this legacy token.*personal access token"):
        Browser(label_studio.url, "dead").project(3)


def test_a_refused_personal_token(label_studio: Any) -> None:
    label_studio.refused["GET", "/api/projects"] = "access_token_wrong"
    with pytest.raises(LabelStudioRefusalError, match=r"refuses this personal access token"):
        Browser(label_studio.url, PERSONAL).projects()


def test_a_project_that_is_not_there(client: Browser) -> None:
    with pytest.raises(LabelStudioRefusalError, match="no project 99"):
        client.project(99)


def test_the_token_does_not_follow_a_redirect(label_studio: Any, client: Browser) -> None:
    label_studio.answers["GET", "/api/projects"] = (301, {})
    with pytest.raises(LabelStudioRefusalError, match=r"redirects to https://elsewhere\.example/.*LABEL_STUDIO_URL"):
        client.projects()


def test_a_redirect_says_which_address_to_give(label_studio: Any, client: Browser) -> None:
    label_studio.moved = "https://ls.example/label/api/projects?page=1"
    label_studio.answers["GET", "/api/projects"] = (301, {})
    with pytest.raises(LabelStudioRefusalError, match=r"give https://ls\.example/label as LABEL_STUDIO_URL\.$"):
        client.projects()
    label_studio.moved = "/user/login/?next=/projects/1/data/api/projects"  # the address was that of a page
    with pytest.raises(
        LabelStudioRefusalError, match=r"give its address alone, such as http://localhost:8080, as LABEL"
    ):
        client.projects()


def test_a_page_that_is_not_there_is_no_missing_project(label_studio: Any, client: Browser) -> None:
    label_studio.answers["GET", "/api/projects/3"] = (404, b"<html>Not Found")
    with pytest.raises(LabelStudioError, match=f"check that {label_studio.url} is the address of a Label Studio alone"):
        client.project(3)


@pytest.mark.parametrize(("body", "sentence"), [(b"<html>hello", "not JSON"), (["x"], "something else than a page")])
def test_answers_of_something_else(label_studio: Any, client: Browser, body: Any, sentence: str) -> None:
    label_studio.answers["GET", "/api/projects"] = (200, body)
    with pytest.raises(LabelStudioError, match=sentence):
        client.projects()


def test_an_error_page_is_not_quoted(label_studio: Any, client: Browser) -> None:
    label_studio.answers["GET", "/api/projects"] = (502, b"<html>many lines</html>")
    with pytest.raises(LabelStudioRefusalError, match=r"502 to GET /api/projects: Bad Gateway$"):
        client.projects()


def test_a_label_studio_that_is_not_there(unused_tcp_url: str) -> None:
    with pytest.raises(LabelStudioError, match=f"{unused_tcp_url} cannot be reached"):
        Browser(unused_tcp_url, LEGACY).projects()


@pytest.mark.parametrize(
    ("answer", "enabled"), [((200, {"legacy_api_tokens_enabled": False}), False), ((403, {}), None)]
)
def test_whether_legacy_tokens_work_may_be_unknown(
    label_studio: Any, client: Browser, answer: tuple[int, Any], enabled: bool | None
) -> None:
    label_studio.answers["GET", "/api/jwt/settings"] = answer
    assert client.legacy_tokens_enabled() is enabled
