from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from backend.store.store import Store
from backend.store.tables import projects
from backend.system import logs
from tests.factories import settings

log = logging.getLogger("backend.test")


Lines = Callable[[], str]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What was logged to standard error; the loggers are as before afterwards."""
    written: list[str] = []

    def read() -> str:
        written.append(capsys.readouterr().err)
        return "".join(written)

    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in logs.TOLD}
    level, hook = root.level, threading.excepthook
    yield read
    threading.excepthook = hook
    root.handlers.clear()
    root.setLevel(level)
    logging.captureWarnings(False)
    for name, usual in levels.items():
        logging.getLogger(name).setLevel(usual)


def test_a_line_has_the_ids_of_what_is_worked_on(lines: Lines) -> None:
    logs.configure()
    log.info("Before.")
    with logs.working_on({"request": "a-1"}):
        log.info("Meanwhile.")
        with logs.working_on(logs.together([{"request": "a-1"}, {"request": "b-2"}, {"request": "a-1"}])):
            log.info("For both.")
    log.info("After.")
    ends = [line.split(" ", 1)[1] for line in lines().splitlines()]
    assert ends == ["Before.", "Meanwhile. request=a-1", "For both. request=a-1,b-2", "After."]


def test_a_thread_that_fails_is_told_in_the_same_form(lines: Lines) -> None:
    logs.configure(logs.JSON, ["open sesame"])
    thread = threading.Thread(target=lambda: [][len("open sesame")], name="of ours")
    thread.start()
    thread.join()
    [line] = map(json.loads, lines().splitlines())
    assert line["message"] == "The thread of ours failed."
    assert line["error"].endswith("IndexError: list index out of range")


def test_json_lines_are_one_object_each(lines: Lines) -> None:
    logs.configure(logs.JSON, ["open sesame"])
    with logs.working_on({"request": "a-1", "job": "retrain-1-2-1"}):
        try:
            raise ValueError('The password "open sesame" is\nwrong.')
        except ValueError:
            log.exception("It failed with %s.", "open sesame")
    [line] = map(json.loads, lines().splitlines())
    error = line.pop("error")
    assert {name: line[name] for name in ("level", "logger", "message", "request", "job")} == {
        "level": "error",
        "logger": "backend.test",
        "message": "It failed with ***.",
        "request": "a-1",
        "job": "retrain-1-2-1",
    }
    assert line["time"].endswith("+00:00")
    assert error.startswith("Traceback")
    assert error.endswith('ValueError: The password "***" is\nwrong.')


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyIjoxfQ.c2lnbmF0dXJl"
SECRETS = [
    ("postgresql+psycopg://captioner:{}@db:5432/captioner cannot be used", "p@ss/w0rd"),
    ("redis://:{}@cache:6379/0 is away", "hunter2-hunter2"),
    ("s3://AKIA:{}@bucket/images", "wJalrXUt"),
    ("headers {{'Authorization': 'Token {}', 'Accept': '*/*'}}", "0a1b2c3d4e" * 4),
    ("Authorization: Basic {}", "bGFiZWw6c3R1ZGlv"),
    ("Authorization: Bearer {}", JWT),
    ("the token {} is refused", "0a1b2c3d4e" * 4),
    ("answered 401 to {}", JWT),
    ("https://x.example/photo.jpg?X-Amz-Signature={}&X-Amz-Expires=60", "0123456789abcdef" * 4),
    ("https://x.example/photo.jpg?sv=2024&sig={}", "aGVsbG8%3D"),
    ("{{'access_token': '{}', 'project': 1}}", "s3cr3t"),
    ('{{"refresh": "{}"}}', "abc.def"),
    ("LABEL_STUDIO_API_KEY is {}", "the-key-of-ours"),
    ("a password of {} within a sentence", "studio:x"),
]


@pytest.mark.parametrize(("sentence", "secret"), SECRETS)
@pytest.mark.parametrize("form", [logs.TEXT, logs.JSON])
def test_no_line_shows_a_secret(lines: Lines, tmp_path: Path, form: str, sentence: str, secret: str) -> None:
    given = settings(
        tmp_path,
        LABEL_STUDIO_API_KEY="the-key-of-ours",
        BASIC_AUTH_USER="label",
        BASIC_AUTH_PASS="studio:x",
        DATABASE_URL="postgresql+psycopg://captioner:p%40ss%2Fw0rd@db/captioner",
    )
    logs.configure(form, given.secrets)
    log.warning("%s", sentence.format(secret))
    try:
        raise RuntimeError(sentence.format(secret))
    except RuntimeError:
        log.exception("It failed.")
    assert logs.HIDDEN in lines()
    assert secret not in lines()


def test_ordinary_lines_stay_as_they_are(lines: Lines) -> None:
    logs.configure(secrets=["label"])
    said = [
        "Label Studio refuses this legacy token because legacy tokens are off (the default).",
        "The image http://127.0.0.1:8080/data/upload/1/photo.jpg could not be fetched: it answered 404.",
        f"The image {'0123456789abcdef' * 4} is damaged and not used; labels and the key under it stay.",
        "Basic authentication is asked for: user@example.com wrote to http://10.0.0.5:9090.",
    ]
    for each in said:
        log.info("%s", each)
    assert [line.split(" ", 1)[1] for line in lines().splitlines()] == said


def test_a_database_error_shows_no_caption(lines: Lines, tmp_path: Path) -> None:
    logs.configure()
    store = Store(f"sqlite:///{tmp_path / 'captioner.db'}")
    store.migrate()
    try:
        with store.writing(1) as connection:
            connection.execute(
                projects.insert().values(id=1, label_config="A man in a red coat.", training_asked=False)
            )
    except sa.exc.IntegrityError:
        log.exception("It is not recorded.")
    assert "IntegrityError" in lines()
    assert "red coat" not in lines()


@pytest.mark.parametrize(
    "said",
    [
        "result: {'value': {'text': ['A man in a red coat.', 'Two.']}, 'id': 'x'}",
        'answered 400: {"text": ["A dog (brown) and [a] red coat"], "id": 1}',
        'answered 400: [{"text": "A man in a \\"red coat\\"."}]',
        "null value violates a constraint\nDETAIL:  Failing row contains (1, {A man in a red coat.}, 2).",
    ],
)
def test_what_others_say_of_a_caption_is_hidden(lines: Lines, said: str) -> None:
    logs.configure()
    log.warning("%s", said)
    assert "red coat" not in lines()
    assert logs.HIDDEN in lines()


def test_a_failing_request_with_a_token_does_not_show_it(lines: Lines) -> None:
    logs.configure()
    url = "http://user:hunter2-hunter2@127.0.0.1:1/data?access_token=s3cr3t-s3cr3t"
    try:
        requests.get(url, headers={"Authorization": "Token 12345-12345"}, timeout=1)
    except requests.ConnectionError:
        log.exception("It could not be fetched.")
    assert "Traceback" in lines()
    for secret in ("hunter2", "s3cr3t", "12345-12345"):
        assert secret not in lines()
