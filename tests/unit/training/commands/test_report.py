import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from training.data.manifest import Row
from training.evaluation import report
from training.evaluation.outcome import Outcome, score


def outcome_of(rows: list[Row], hypotheses: list[str]) -> Outcome:
    return score("mine & <yours>", "beam:5", rows, hypotheses)


def page_of(outcome: Outcome) -> str:
    assert outcome.report
    return report.page(outcome, outcome.report)


@pytest.fixture
def rows(picture: Callable[..., Path]) -> list[Row]:
    texts = ["a dog runs <b>fast</b>", "a cat sleeps", "two birds fly over water", "a red car on a road"]
    images = [picture("red", f"photo-{number}.png", (60 + number, 40)) for number in range(4)]
    return [
        Row(image, str(number), (text, f"{text} here"), image_id=f"id-{number}")
        for number, (image, text) in enumerate(zip(images, texts, strict=True))
    ]


def test_the_best_and_the_worst_stand_beside_their_photos(rows: list[Row]) -> None:
    hypotheses = ["a dog runs <b>fast</b>", "nothing", "two birds fly", "a red car on a road"]
    outcome = outcome_of(rows, hypotheses)
    page = page_of(outcome)
    best, worst = page.split("The worst captions")
    assert re.findall(r"<span>(id-\d)</span>", worst) == ["id-1", "id-2"]
    assert set(re.findall(r"<span>(id-\d)</span>", best)) == {"id-0", "id-3"}
    assert page.count('src="data:image/jpeg;base64,') == 4
    assert all(text in page for row in rows[1:] for text in row.references)
    assert "the median is" in page


def test_texts_are_escaped_and_nothing_is_fetched(rows: list[Row]) -> None:
    page = page_of(outcome_of(rows, ["<script>alert(1)</script>"] * 4))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<b>fast" not in page
    assert "mine &amp; &lt;yours&gt;" in page
    assert "http" not in page
    HTMLParser().feed(page)


def test_a_photo_that_has_gone_leaves_its_captions(rows: list[Row]) -> None:
    rows[0].image.unlink()
    page = page_of(outcome_of(rows, ["a dog"] * 4))
    assert page.count("This photo can no longer be read.") == 1
    assert page.count("data:image/jpeg") == 3


def test_one_caption_is_not_shown_twice(rows: list[Row]) -> None:
    page = page_of(outcome_of(rows[:1], ["a dog"]))
    assert page.count("<figure>") == 1
    assert "The worst" not in page


def test_rows_without_captions_are_not_shown(rows: list[Row]) -> None:
    page = page_of(outcome_of([replace(rows[0], references=()), *rows[1:]], ["unscored", "a cat", "birds", "a car"]))
    assert "3 captions scored of 4" in page
    assert page.count("<figure>") == 3


def test_of_many_captions_a_dozen_at_each_end_is_shown(rows: list[Row]) -> None:
    page = page_of(outcome_of(rows * 10, ["a dog"] * 40))
    assert page.count("<figure>") == 2 * report.SHOWN


@pytest.mark.parametrize(
    ("values", "counts", "high"),
    [((0.0,), {0: 1}, 100), ((0.0, 4.9, 5.0, 100.0), {0: 2, 1: 1, 19: 1}, 100), ((1.0, 101.0), {0: 1, 10: 1}, 200)],
)
def test_a_histogram_counts_every_value(values: tuple[float, ...], counts: dict[int, int], high: float) -> None:
    bins = report.histogram(values)
    assert {place: each.count for place, each in enumerate(bins) if each.count} == counts
    assert (bins[0].low, bins[-1].high, len(bins)) == (0, high, report.BINS)
    assert max(each.share for each in bins) == 1
