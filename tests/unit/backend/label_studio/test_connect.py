from __future__ import annotations

import base64
from typing import Any

import pytest

from backend.domain.errors import LabelStudioError
from backend.label_studio.client import LabelStudio
from backend.label_studio.connect import Connection, connect
from labeling_config import shipped

URL = "http://10.0.0.5:9090"
BASIC = "Basic " + base64.b64encode(b"user:pass:word").decode()


@pytest.fixture
def client(label_studio: Any) -> LabelStudio:
    return LabelStudio(label_studio.url, "0" * 40)


def check(connection: Connection) -> None:
    assert not connection.problems
    assert connection.report
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in connection.report)


def test_a_new_connection(label_studio: Any, client: LabelStudio) -> None:
    connection = connect(client, 3, f"{URL}/")
    check(connection)
    (backend,) = label_studio.backends
    assert (backend["url"], backend["title"], backend["auth_method"]) == (URL, "captioner", "NONE")
    (hook,) = label_studio.hooks
    assert hook["url"] == f"{URL}/webhook"
    assert (hook["is_active"], hook["send_payload"], hook["send_for_all_actions"]) == (True, True, True)
    assert "Authorization" not in hook["headers"]
    assert label_studio.projects[3]["model_version"] == "captioner"


def test_other_names_of_tags(label_studio: Any, client: LabelStudio) -> None:
    label_studio.projects[3]["label_config"] = (
        '<View><Image name="pic" value="$photo"/><TextArea name="words" toName="pic" maxSubmissions="3"/></View>'
    )
    connection = connect(client, 3, URL)
    assert any("'words'" in s and "'pic'" in s and "'photo'" in s for s in connection.report)
    assert any("not editable" in s for s in connection.report)


def test_a_box_for_hints_makes_the_backend_interactive(label_studio: Any, client: LabelStudio) -> None:
    label_studio.projects[3]["label_config"] = shipped("guided")
    connection = connect(client, 3, URL)
    check(connection)
    assert label_studio.backends[0]["is_interactive"] is True
    assert any("'hint'" in sentence and "Auto-Annotation" in sentence for sentence in connection.report)
    label_studio.projects[3]["label_config"] = shipped("caption")
    connect(client, 3, URL)
    assert label_studio.backends[0]["is_interactive"] is False


def test_connecting_again_changes_nothing(label_studio: Any, client: LabelStudio) -> None:
    connect(client, 3, URL)
    label_studio.hooks[0]["headers"] = {"X-Mine": "kept"}
    before = (dict(label_studio.backends[0]), dict(label_studio.hooks[0]), dict(label_studio.projects[3]))
    connect(client, 3, URL)
    assert (len(label_studio.backends), len(label_studio.hooks)) == (1, 1)
    assert (label_studio.backends[0], label_studio.hooks[0], label_studio.projects[3]) == before


def test_basic_auth_goes_into_the_record_and_into_the_webhook(label_studio: Any, client: LabelStudio) -> None:
    check(connect(client, 3, URL, ("user", "pass:word")))
    (backend,) = label_studio.backends
    assert (backend["auth_method"], backend["basic_auth_user"]) == ("BASIC_AUTH", "user")
    assert backend["basic_auth_pass"] == "pass:word"
    assert label_studio.hooks[0]["headers"] == {"Authorization": BASIC}


def test_basic_auth_is_switched_off_again(label_studio: Any, client: LabelStudio) -> None:
    connect(client, 3, URL, ("user", "pass:word"))
    connect(client, 3, URL)
    (backend,) = label_studio.backends
    # Label Studio cannot empty the password, and sends both whenever both are set
    assert (backend["auth_method"], backend["basic_auth_user"]) == ("NONE", "")


def test_a_backend_that_moved_takes_record_and_webhook_along(label_studio: Any, client: LabelStudio) -> None:
    connect(client, 3, URL)
    check(connect(client, 3, "http://10.0.0.5:9191"))
    assert [backend["url"] for backend in label_studio.backends] == ["http://10.0.0.5:9191"]
    assert [hook["url"] for hook in label_studio.hooks] == ["http://10.0.0.5:9191/webhook"]


def test_a_record_made_by_hand_is_taken_over(label_studio: Any, client: LabelStudio) -> None:
    client.create_ml_backend(3, f"{URL}/", title="my model")
    label_studio.hooks.clear()
    label_studio.projects[3] |= {"model_version": "my model", "show_collab_predictions": False}
    check(connect(client, 3, URL))
    assert [backend["title"] for backend in label_studio.backends] == ["captioner"]
    assert [hook["url"] for hook in label_studio.hooks] == [f"{URL}/webhook"]
    project = label_studio.projects[3]
    assert (project["model_version"], project["show_collab_predictions"]) == ("captioner", True)


def test_stored_drafts_go_on_being_shown_where_the_backend_was_known(label_studio: Any, client: LabelStudio) -> None:
    label_studio.stored = {"p3-v2": 40}
    label_studio.projects[3]["model_version"] = "p3-v2"
    connect(client, 3, URL)
    assert label_studio.projects[3]["model_version"] == "captioner"  # a new backend is to be seen at work
    label_studio.projects[3]["model_version"] = "p3-v2"
    found = connect(client, 3, URL)
    assert label_studio.projects[3]["model_version"] == "p3-v2"
    assert "stored drafts of p3-v2" in found.report[-1]


def test_connecting_again_says_that_drafts_are_live(label_studio: Any, client: LabelStudio) -> None:
    connect(client, 3, URL)
    label_studio.stored = {"p3-v2": 40, "captioner": 0}  # Label Studio counts for what is shown, too
    assert connect(client, 3, URL).report[-1].startswith("Tasks open with a draft of this backend")


def test_a_disabled_webhook_is_switched_on(label_studio: Any, client: LabelStudio) -> None:
    connect(client, 3, URL)
    label_studio.hooks[0] |= {"is_active": False, "send_payload": False}
    check(connect(client, 3, URL))
    assert (label_studio.hooks[0]["is_active"], label_studio.hooks[0]["send_payload"]) == (True, True)


def test_other_projects_are_left_alone(label_studio: Any, client: LabelStudio) -> None:
    label_studio.projects[4] = {"id": 4, "label_config": shipped("caption")}
    client.create_ml_backend(4, URL, title="captioner")
    connect(client, 3, URL)
    assert [(backend["project"], backend["url"]) for backend in label_studio.backends] == [(4, URL), (3, URL)]


def test_another_ml_backend_that_comes_first_is_named_before_anything_is_saved(
    label_studio: Any, client: LabelStudio
) -> None:
    client.create_ml_backend(3, "http://10.0.0.9:1", title="segmenter")
    with pytest.raises(LabelStudioError, match=r"'segmenter' at http://10.0.0.9:1.*only the first.*remove it"):
        connect(client, 3, URL)
    assert len(label_studio.backends) == 1


@pytest.mark.parametrize(
    ("label_config", "sentence"),
    [
        ("<View></View>", "no <Image>"),
        ("", "no labelling config yet"),
        ("<View>", "not valid XML"),
        (
            '<View><Image name="i" value="$pages[{{idx}}].url"/><TextArea name="c" toName="i"/></View>',
            "one image and one",
        ),
    ],
)
def test_a_project_without_caption_box(
    label_studio: Any, client: LabelStudio, label_config: str, sentence: str
) -> None:
    label_studio.projects[3]["label_config"] = label_config
    with pytest.raises(LabelStudioError, match=f"Project 3 .*{sentence}"):
        connect(client, 3, URL)
    assert label_studio.backends == []


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ("backend_address_private", "private or loopback; start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false"),
        ("backend_down", "cannot reach the captioner at http://10.0.0.5:9090; check that it runs"),
        ("backend_wants_password", "refuses a call without user name.*BASIC_AUTH_USER and BASIC_AUTH_PASS"),
        ("backend_setup_fails", r"did not accept the project \(500 Server Error: Internal Server Error\)"),
        ("backend_host_unknown", "cannot resolve the host"),
        ("title_too_short", "title: Ensure this field"),
    ],
)
def test_refused_records_say_how_to_mend_them(
    label_studio: Any, client: LabelStudio, refusal: str, sentence: str
) -> None:
    label_studio.refused["POST", "/api/ml"] = refusal
    with pytest.raises(LabelStudioError, match=sentence) as caught:
        connect(client, 3, URL)
    assert "\n" not in str(caught.value)


def test_a_refused_update_says_how_to_mend_it(label_studio: Any, client: LabelStudio) -> None:
    connect(client, 3, URL)
    label_studio.refused["PATCH", "/api/ml/1"] = "backend_wants_password"
    with pytest.raises(LabelStudioError, match="refuses the user name and password given"):
        connect(client, 3, URL, ("user", "wrong"))


def test_a_host_without_a_dot_gets_drafts_but_no_webhook(label_studio: Any, client: LabelStudio) -> None:
    label_studio.refused["POST", "/api/webhooks"] = "webhook_host_without_dot"
    connection = connect(client, 3, "http://ml-backend:9090")
    assert connection.problems
    assert not label_studio.hooks
    (problem,) = connection.problems
    assert "'ml-backend' has no dot" in problem
    assert "IP address" in problem
    assert label_studio.projects[3]["model_version"] == "captioner"


def test_a_webhook_that_would_not_be_delivered_is_found_though_it_exists(
    label_studio: Any, client: LabelStudio
) -> None:
    connect(client, 3, URL)
    label_studio.refused["PATCH", "/api/webhooks/1"] = "webhook_address_private_update"
    connection = connect(client, 3, URL)
    assert connection.problems
    assert "USE_DEFAULT_BANNED_SUBNETS=false" in connection.problems[0]


def test_a_dead_legacy_token_stops_the_connection(label_studio: Any, client: LabelStudio) -> None:
    label_studio.refused["GET", "/api/projects/3"] = "legacy_tokens_off"
    with pytest.raises(LabelStudioError, match=r"legacy tokens are off.*personal access"):
        connect(client, 3, URL)


def test_it_says_when_the_token_of_setup_will_be_dead(label_studio: Any, client: LabelStudio) -> None:
    assert not any("Legacy tokens" in sentence for sentence in connect(client, 3, URL).report)
    label_studio.legacy_tokens = False
    assert any("LABEL_STUDIO_API_KEY" in sentence for sentence in connect(client, 3, URL).report)


@pytest.mark.parametrize("url", ["10.0.0.5:9090", "ftp://10.0.0.5", "http://", ""])
def test_what_is_no_address(client: LabelStudio, url: str) -> None:
    with pytest.raises(LabelStudioError, match="is not an address"):
        connect(client, 3, url)


@pytest.mark.parametrize("auth", [("us:er", "x"), ("üser", "x"), ("user", "pässword"), ("user", "")])
def test_credentials_that_servers_read_differently(client: LabelStudio, auth: tuple[str, str]) -> None:
    with pytest.raises(LabelStudioError, match="BASIC_AUTH_USER and BASIC_AUTH_PASS must be plain ASCII"):
        connect(client, 3, URL, auth)
