"""The rows of `benchmarks.serving`, from answers that are given here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks import serving, serving_rows
from benchmarks.serving_load import Answer, Client, Tasks
from benchmarks.serving_rows import Rows, Size

SIZE = Size(tasks=8, clients=4, singles=4, interactive=2, thousands=16, pairs=3)


class Server(Client):
    """Drafts each task as `a dog` at 0.1 s a task, but only `most` tasks a request; again at a hundredth of that."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.known: set[int] = set()

    def ask(self, tasks: Sequence[dict[str, Any]]) -> Answer:
        new = [each["id"] for each in tasks if each["id"] not in self.known][: self.most]
        self.known |= set(new)
        seconds = 0.1 * len(new) + 0.001 * (len(tasks) - len(new))
        return Answer(seconds, ["a dog" if each["id"] in self.known else None for each in tasks])


class Model:
    """Encodes 20 images a second and takes 0.08 s for one image."""

    def run(self, function: Callable[..., Any], *arguments: object) -> Any:
        if function is serving_rows.encoder_rate:
            return 20.0
        if function is serving_rows.bare:
            return 0.08, "a dog"
        return {"fetch": 0.1, "decode": 0.1, "encoder": 0.4, "beam_search": 0.1}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[Server], Rows]:
    cpu = iter(range(100))
    monkeypatch.setattr(serving_rows, "settle", lambda *_: 0.0)
    monkeypatch.setattr(serving_rows, "cpu_seconds", lambda pid: float(next(cpu)))

    def measured(server: Server) -> Rows:
        tasks = Tasks("http://images.example", [Path(f"{number}.jpg") for number in range(100)])
        model: Any = Model()
        return Rows("starter", server, 1, model, tasks, SIZE)

    return measured


def test_a_large_request_is_compared_with_the_encoder_and_with_itself(rows: Callable[[Server], Rows]) -> None:
    measured = rows(Server())
    measured.throughput()
    measured.shares(Path(), "")
    measured.cached()
    figures = measured.figures
    assert figures["starter_http_over_encoder"] == pytest.approx(0.5)  # 10 of 20 a second
    assert figures["starter_cores_used"] == pytest.approx(1 / 0.8)
    assert figures["starter_encoder_share"] == pytest.approx(0.4)
    assert figures["starter_rest_share"] == pytest.approx(0.3)
    assert figures["starter_cached_speedup"] == pytest.approx(100)
    assert figures["starter_changed_drafts"] == 0


def test_where_the_time_budget_ends_before_drafts_count(rows: Callable[[Server], Rows]) -> None:
    measured = rows(Server(most=4))
    measured.throughput()
    measured.cached()
    assert measured.figures["starter_http_images_a_second"] == pytest.approx(4 / 0.404)
    assert measured.figures["starter_cached_speedup"] == pytest.approx(101)
    assert measured.figures["starter_changed_drafts"] == 0


def test_a_single_task_is_compared_with_the_model(rows: Callable[[Server], Rows]) -> None:
    measured = rows(Server())
    measured.single()
    assert measured.figures["starter_single_over_model"] == pytest.approx(1.25)
    assert measured.figures["starter_same_captions_share"] == 1


def test_no_draft_at_all_ends_the_benchmark(rows: Callable[[Server], Rows]) -> None:
    with pytest.raises(click.ClickException, match="No task of a request with 1 got a draft"):
        rows(Server(most=0)).warm_up()


def test_no_photo_is_given_twice() -> None:
    tasks = Tasks("http://images.example", [Path(f"{number}.jpg") for number in range(5)])
    given = [each for number in (2, 3) for each in tasks.take(number)[0]]
    assert [each["id"] for each in given] == [1, 2, 3, 4, 5]
    assert len({each["data"]["image"] for each in given}) == 5
    with pytest.raises(click.ClickException, match="too few"):
        tasks.take(1)


def test_meanings_name_the_targets_of_each_captioner() -> None:
    texts = [text.format_map(each) for each in serving.TARGETS.values() for text in serving.MEANINGS.values()]
    assert not any(mark in text for text in texts for mark in "{}")
