"""The warning of people who wave drafts through, on corrections that were made up."""

from __future__ import annotations

import random

from backend.reports.economics.blind import blind_slice
from backend.reports.economics.waving import Waving, waving
from backend.store.drafts.outcomes import CorrectedDraft, WithheldDraft

WORDS = [f"w{number}" for number in range(40)]


def made_up(
    accepted: tuple[float, float], right: tuple[float, float], *, of: int = 300, blind: int = 120, seed: int = 1
) -> Waving:
    """Of two versions whose drafts are accepted, and whose words on blind tasks are right, with these chances."""
    chance = random.Random(seed)
    corrected, withheld = [], []
    for version, accept, word in zip(("v1", "v2"), accepted, right, strict=True):
        for _ in range(of):
            caption = " ".join(chance.choices(WORDS, k=8))
            text = caption if chance.random() < accept else f"{caption} too"
            corrected.append(CorrectedDraft(version, text, (caption,)))
        for _ in range(blind):
            caption = chance.choices(WORDS, k=8)
            text = " ".join(each if chance.random() < word else chance.choice(WORDS) for each in caption)
            corrected.append(CorrectedDraft(version, "", (" ".join(caption),), task=len(corrected), blind=True))
            withheld.append(WithheldDraft(len(corrected) - 1, version, text))
    return waving(corrected, blind_slice(corrected, withheld))


def test_acceptance_that_rises_over_drafts_that_get_no_better_is_a_warning() -> None:
    found = made_up((0.2, 0.4), (0.8, 0.7))
    assert found.state == "warning"
    assert found.p is not None
    assert found.p < 0.05
    assert found.high is not None
    assert found.high < 1
    assert found.text.startswith("People may be waving drafts through: unedited acceptance rose from ")
    for number in (f"{found.before.share:.1%} of 300", f"{found.after.share:.1%} of 300", "240 blind tasks"):
        assert number in found.text
    assert f"90 % bootstrap interval {found.low:+.1f} to {found.high:+.1f}), which excludes a rise of 1." in found.text


def test_one_version_whose_drafts_are_accepted_more_and_more_is_a_warning_whatever_chance_does() -> None:
    chance = random.Random(3)
    corrected = [
        CorrectedDraft("v1", "a dog", ("a dog" if chance.random() < accept else "a cat",))
        for accept in (0.2, 0.5)
        for _ in range(200)
    ]
    corrected += [CorrectedDraft("v1", "", ("a dog runs in snow",), task=task, blind=True) for task in range(30)]
    withheld = [WithheldDraft(task, "v1", "a dog runs on grass") for task in range(30)]
    found = waving(corrected, blind_slice(corrected, withheld))
    assert (found.state, found.change) == ("warning", 0.0)


def test_acceptance_that_rises_as_drafts_get_better_is_none() -> None:
    found = made_up((0.2, 0.4), (0.7, 0.85))
    assert found.state == "fine"
    assert found.low is not None
    assert found.low > 0
    assert "and so did the drafts" in found.text


def test_a_rise_that_chance_explains_is_none() -> None:
    found = made_up((0.3, 0.31), (0.8, 0.6))
    assert found.state == "fine"
    assert "did not rise significantly" in found.text


def test_of_few_blind_tasks_it_is_said_that_nothing_can_be_told() -> None:
    few = made_up((0.2, 0.4), (0.8, 0.8), blind=10)
    assert few.state == "unknown"
    assert "blind tasks with a withheld draft are 10 and 10, and it takes 20 of either half" in few.text
    unclear = made_up((0.2, 0.4), (0.8, 0.81), blind=25)
    assert unclear.state == "unknown"
    assert "Whether the drafts got better cannot be told yet" in unclear.text
    early = made_up((0.2, 0.9), (0.8, 0.1), of=40)
    assert early.state == "unknown"
    assert early.text == "It takes 100 corrected drafts to tell whether people wave drafts through."


def test_drafts_that_are_withheld_as_too_bad_count_as_not_accepted() -> None:
    chance = random.Random(3)
    corrected = [
        CorrectedDraft("v1", "" if withheld and not good else "a dog", ("a dog" if good else "a cat",))
        for withheld in (False, True)
        for good in chance.choices([True, False], weights=[3, 7], k=200)
    ]
    found = waving(corrected, blind_slice(corrected, []))
    assert found.state == "fine", "of the drafts that are shown all are accepted from the second half on"
    assert (found.before.corrections, found.after.corrections) == (200, 200)


def test_a_false_warning_is_rare_where_drafts_get_better() -> None:
    states = [made_up((0.2, 0.5), (0.75, 0.8), of=60, blind=40, seed=seed).state for seed in range(20)]
    assert states.count("warning") <= 2, "about one in twenty at most"
