"""The estimate of what further corrections teach, on corrections that were made up."""

from __future__ import annotations

import math
import random

import pytest

from backend.reports.economics.curve import Curve, learning_curve
from backend.reports.economics.measures import measure
from backend.store.drafts.outcomes import CorrectedDraft


def made_up(level: float, slope: float, learned: tuple[int, ...], drafts: int = 60, seed: int = 1) -> Curve:
    """Versions whose drafts have level - slope * log(1 + n / 25) wrong words on average."""
    chance = random.Random(seed)
    corrected = []
    for number, known in enumerate(learned):
        mean = level - slope * math.log1p(known / 25)
        for _ in range(drafts):
            wrong = sum(chance.random() < mean / 10 for _ in range(10))
            caption = "a b c d e f g h i j"
            draft = " ".join(f"x{word}" if place < wrong else word for place, word in enumerate(caption.split()))
            corrected.append(CorrectedDraft(f"v{number}", draft, (caption,)))
    known_by = {f"v{number}": known for number, known in enumerate(learned)}
    return learning_curve(measure(corrected), known_by, max(learned))


def test_a_curve_that_falls_gives_an_estimate_with_an_interval_that_holds_the_truth() -> None:
    found = made_up(6.0, 1.0, (0, 25, 60, 120, 200), drafts=150)
    truth = math.log1p(300 / 25) - math.log1p(200 / 25)
    assert found.state == "falls"
    assert found.fall is not None
    assert found.fall.low is not None
    assert found.fall.high is not None
    assert 0 < found.fall.low < truth < found.fall.high < 1
    assert found.now is not None
    assert found.then is not None
    change = f"from {found.now.value:.1f} to {found.then.value:.1f} words a draft"
    bounds = f"a fall of {found.fall.value:.2f}, 95 % interval {found.fall.low:.2f} to {found.fall.high:.2f}"
    assert found.text == f"The next 100 corrections are expected to lower edits {change} ({bounds})."
    assert [point.learned for point in found.points] == [0, 25, 60, 120, 200]
    assert found.line[0][0] == 0
    assert found.line[-1][0] == 300


def test_a_flat_curve_says_that_more_teaches_little() -> None:
    found = made_up(2.0, 0.0, (0, 100, 300, 800), drafts=300)
    assert found.state == "flat"
    assert found.text.startswith("Labelling more of these teaches little now: the next 100 corrections")


def test_a_curve_that_may_be_anything_says_so() -> None:
    found = made_up(5.0, 0.1, (0, 25, 50), drafts=12)
    assert found.state == "unknown"
    assert "too little to tell whether they lower them" in found.text


def test_versions_that_scatter_more_than_chance_widen_the_interval() -> None:
    steady = made_up(5.0, 0.5, (0, 25, 60, 120), drafts=200)
    corrected = []
    for number, wrong in enumerate((5, 2, 5, 2)):
        for place in range(200):
            draft = " ".join(["x"] * (wrong + place % 2) + ["a"] * (10 - wrong - place % 2))
            corrected.append(CorrectedDraft(f"v{number}", draft, ("a " * 9 + "a",)))
    learned = dict(zip(("v0", "v1", "v2", "v3"), (0, 25, 60, 120), strict=True))
    scattered = learning_curve(measure(corrected), learned, 120)
    assert steady.fall is not None
    assert scattered.fall is not None

    def width(curve: Curve) -> float:
        assert curve.fall is not None
        assert curve.fall.low is not None
        assert curve.fall.high is not None
        return curve.fall.high - curve.fall.low

    assert width(scattered) > 3 * width(steady)
    assert scattered.state == "unknown"


@pytest.mark.parametrize(
    ("learned", "drafts", "there"),
    [((0, 50), 60, "there are 2"), ((0, 0, 0), 60, "there is 1"), ((0, 50, 100), 9, "there are 0")],
)
def test_too_little_is_said_to_be_too_little(learned: tuple[int, ...], drafts: int, there: str) -> None:
    found = made_up(5.0, 0.5, learned, drafts)
    assert found.state == "too little"
    assert found.text.startswith("There is too little to tell what further corrections teach: it takes 3 versions")
    assert found.text.endswith(f"{there}.")
    assert found.line == ()
