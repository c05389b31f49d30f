"""Every number on the page of a project is computed once more here, from the rows in SQL and in plain Python."""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path
from statistics import NormalDist, median
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from scipy.special import stdtrit

from backend.cli.main import main
from backend.drafts.calibrating import calibrate
from backend.serving.scores import values
from backend.store.database import now
from backend.store.drafts.selections import Chosen, Order
from backend.store.store import Store
from backend.store.tables import corrections, drafts, retrains
from tests.factories import correction, draft, saved, settings
from tests.pages import digits_of, parsed, texts_of
from training.selection.calibration import cross_fitted

WORDS = "a the man woman dog red blue shirt runs jumps over in on water snow grass two".split()  # noqa: SIM905
VERSIONS = {"starter-v1": 0, "p1-v1": 60, "p1-v2": 140}
"""Versions, and how many corrections each had learned."""
CHOSEN, CONTROLS = range(75, 100), range(100, 108)
"""Tasks that a strategy selected, and that were drawn at random beside them."""
Z = NormalDist().inv_cdf(0.975)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of three versions: drafts that get better, blind tasks, copied corrections, and what does not count."""
    folder = tmp_path_factory.mktemp("data")
    store = Store(settings(folder).database_url)
    store.migrate()
    chance = random.Random(7)
    made, served, blind = [], [], []
    for number in range(1, 221):
        better = 0 if number <= 70 else 1 if number <= 150 else 2
        version = [*VERSIONS][better]
        caption = " ".join(chance.choices(WORDS, k=chance.randint(4, 9)))
        faults = 0 if chance.random() < 0.1 + 0.2 * better else chance.randint(1, (6, 5, 4)[better])
        text = _worse(caption, chance, faults)
        fields: dict[str, Any] = {"annotator": chance.choice([7, 7, 3, 40, None]), "texts": (caption,)}
        fields["lead_time_seconds"] = None if number % 17 == 0 else round(chance.lognormvariate(2.5, 0.8), 1)
        shown = draft(number, version, text, image_sha256=f"{number:064d}")
        if number % 5 == 0:  # people write what they see, whatever the captioner would have said
            shown = draft(number, version, "", image_sha256=f"{number:064d}", withheld=text)
            blind.append(f"{number:064d}")
        elif number % 11 == 0:
            shown = draft(number, version, text, from_task=1)
        elif number % 13 == 0:
            fields["texts"] = (f"{caption} too", caption)
        if number % 5 and text != caption and chance.random() < 0.6:
            fields["reasons"] = tuple(chance.sample(["object", "count", "wording"], k=chance.choice([1, 1, 2])))
        if number == 9:
            fields["was_cancelled"] = True
        signals = {
            "log_probability": -0.2 * faults + round(chance.gauss(0, 0.3), 3),
            "length": float(len(text.split())),
        }
        served.append(replace(shown, signals=signals))
        made.append(correction(number, **fields))
    store.place(1, blind, 1.0)
    store.place(1, [f"{number:064d}" for number in range(1, 221)], 0.0)
    store.add_drafts(1, served)
    batches = made[:61], made[61:141], made[141:]  # one of the first is skipped
    seqs = [store.record(saved(*batch)).seq for batch in batches]
    selection = store.order_selection(1, Order("margin", 40))
    picked = [*(Chosen(task, False) for task in CHOSEN), *(Chosen(task, True) for task in CONTROLS), Chosen(110, False)]
    assert store.save_choice(selection, "p1-v1", None, picked)
    store.mark_stored(selection, [*CHOSEN, *CONTROLS], [])  # Label Studio never had the last one
    store.record(saved(correction(221, "of another project", project_id=2)))
    common = {"project_id": 1, "frozen": True, "attempt": 1, "state": "done", "requested_at": now()}
    calibrate(store, 1)
    with store.writing(1) as connection:
        for version, seq in zip([*VERSIONS][1:], seqs, strict=False):
            row = {**common, "snapshot": version, "cutoff_seq": seq, "version": version}
            connection.execute(retrains.insert().values(**row))
    return folder


def _worse(caption: str, chance: random.Random, changes: int) -> str:
    words = caption.split()
    for _ in range(changes):
        place = chance.randrange(len(words))
        words[place : place + 1] = chance.choice([[], [chance.choice(WORDS)], [words[place], chance.choice(WORDS)]])
        words = words or ["a"]
    return " ".join(words)


def run(data: Path, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["report", "--data-dir", str(data), *map(str, arguments)])


# The same figures in plain Python.


def words_of(text: str) -> list[str]:
    """Lower-case words without the punctuation around them."""
    return [word for part in text.lower().split() if (word := part.strip(".,;:!?\"'()-"))]


def changes(before: Sequence[str], after: Sequence[str]) -> tuple[int, int, int, int]:
    """Edits, replaced, inserted, deleted: the fewest edits, and of those the fewest replaced."""
    table: dict[tuple[int, int], tuple[int, int, int, int]] = {(0, 0): (0, 0, 0, 0)}
    for i, j in product(range(len(before) + 1), range(len(after) + 1)):
        ways = []
        if j:
            e, r, n, d = table[i, j - 1]
            ways.append((e + 1, r, n + 1, d))
        if i:
            e, r, n, d = table[i - 1, j]
            ways.append((e + 1, r, n, d + 1))
        if i and j:
            e, r, n, d = table[i - 1, j - 1]
            other = before[i - 1] != after[j - 1]
            ways.append((e + other, r + other, n, d))
        if ways:
            table[i, j] = min(ways)
    return table[len(before), len(after)]


def in_brackets(low: float, high: float, digits: int = 2, share: bool = False) -> str:
    ends = (f"{100 * each:.0f}" if share else f"{each:.{digits}f}" for each in (low, high))
    return f"({(' to ' if low < 0 else '–').join(ends)})"


def wilson(number: int, of: int) -> str:
    p = number / of
    middle, half = p + Z * Z / (2 * of), Z * math.sqrt(p * (1 - p) / of + Z * Z / (4 * of * of))
    whole = 1 + Z * Z / of
    return f"{p:.0%} {in_brackets(max(0, (middle - half) / whole), min(1, (middle + half) / whole), share=True)}"


def ratio(parts: Sequence[float], wholes: Sequence[float], share: bool = False) -> str:
    rows, total = len(parts), sum(wholes)
    value = sum(parts) / total
    spread = sum((part - value * whole) ** 2 for part, whole in zip(parts, wholes, strict=True)) / (rows - 1)
    half = float(stdtrit(rows - 1, 0.975)) * math.sqrt(spread * rows) / total
    shown = f"{value:.0%}" if share else f"{value:.2f}"
    low = value - half if min(parts) < 0 else max(0.0, value - half)
    return f"{shown} {in_brackets(low, value + half, share=share)}"


def mean(values: Sequence[float]) -> str:
    return ratio(values, [1] * len(values))


Time = tuple[float, float | None, float | None]


def middle(values: Iterable[float | None]) -> Time:
    known = sorted(value for value in values if value)
    rows = len(known)
    low, high = math.floor(rows / 2 - Z * math.sqrt(rows) / 2), math.ceil(rows / 2 + 1 + Z * math.sqrt(rows) / 2)
    return (median(known), known[low - 1], known[high - 1]) if low > 0 else (median(known), None, None)


def seconds(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.1f} s" if low is None or high is None else f"{value:.1f} s {in_brackets(low, high, 1)}"


def saved_by(without: Time, given: Time) -> Time:
    value = without[0] - given[0]
    if without[1] is None or without[2] is None or given[1] is None or given[2] is None:
        return value, None, None
    down = math.hypot(without[0] - without[1], given[2] - given[0])
    return value, value - down, value + math.hypot(without[2] - without[0], given[0] - given[1])


def quantiles(values: Sequence[float], *levels: float) -> list[float]:
    return [float(each) for each in np.quantile(values, levels)]


class Project:
    """The rows of SQL, and what is to be on the page."""

    def __init__(self, data: Path) -> None:
        store = Store(settings(data).database_url)
        with store.reading() as connection:
            query = sa.select(corrections).where(corrections.c.project_id == 1, corrections.c.usable)
            self.rows = [row._asdict() for row in connection.execute(query.order_by(corrections.c.annotation_id))]
            told = sa.select(drafts.c.task_id, drafts.c.signals).where(drafts.c.signals.is_not(sa.null()))
            self.signals = {row.task_id: row.signals for row in connection.execute(told)}
            self.withheld = connection.execute(sa.select(drafts).where(drafts.c.withheld.is_not(None))).all()
        others = [row for row in self.rows if row["task_id"] not in CHOSEN]
        self.blind = [row for row in self.rows if row["draft_text"] == ""]
        self.drafted = [row for row in self.rows if row["draft_text"] and row["draft_version"]]
        for row in self.drafted:
            text = row["draft_text"]
            ways = [changes(words_of(text), words_of(caption)) for caption in row["texts"]]
            best = min(range(len(ways)), key=lambda number: (ways[number][0], number))
            row["caption"], (row["edits"], row["replaced"], row["inserted"], row["deleted"]) = (
                row["texts"][best],
                ways[best],
            )
            row["characters"] = len(row["caption"])
            row["saved"] = row["characters"] - changes([*text], [*row["caption"]])[0]
            row["unchanged"] = text in row["texts"]
        self.honest = [row for row in self.drafted if row in others]
        self.honest_blind = [row for row in self.blind if row in others]

    def of(self, version: str | None = None, annotator: Any = "any") -> list[dict[str, Any]]:
        return [
            row
            for row in self.drafted
            if version in (None, row["draft_version"]) and annotator in ("any", row["annotator"])
        ]

    def honest_of(self, version: str) -> list[dict[str, Any]]:
        """Without what a strategy selected."""
        return [row for row in self.honest if row["draft_version"] == version]

    def row(self, name: str, rows: list[dict[str, Any]], last: Sequence[str]) -> list[str]:
        """A line of a table."""
        reasons = Counter(reason for row in rows for reason in row["reasons"])
        return [
            name,
            str(len(rows)),
            wilson(sum(row["unchanged"] for row in rows), len(rows)),
            wilson(sum(row["edits"] <= 1 for row in rows), len(rows)),
            *(mean([row[part] for row in rows]) for part in ("edits", "inserted", "deleted", "replaced")),
            ratio([row["edits"] for row in rows], [len(words_of(row["caption"])) for row in rows]),
            ratio([row["saved"] for row in rows], [row["characters"] for row in rows], share=True),
            seconds(*middle(row["lead_time_seconds"] for row in rows)),
            *last,
            ", ".join(f"{reason} {reasons[reason]}" for reason in sorted(reasons)) or "–",
        ]

    @cached_property
    def pairs(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Of each blind task the version, its withheld draft and the captions, in words."""
        captions = {row["task_id"]: [text.split() for text in row["texts"]] for row in self.honest_blind}
        made = {row.task_id: (row.version, row.withheld.split()) for row in self.withheld}
        return [(*made[task], captions[task]) for task in captions]

    @cached_property
    def statistics(self) -> list[list[int]]:
        """Matches, n-grams and lengths of each pair, and how many drafts it is."""
        rows = []
        for _, words, [reference] in self.pairs:
            grams = [[Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1)) for n in range(1, 5)]
                     for text in (words, reference)]  # fmt: skip
            matches = [(own & other).total() for own, other in zip(*grams, strict=True)]
            number = [max(1, len(words) - n + 1) for n in range(1, 5)]
            rows.append([*matches, *number, len(words), len(reference), 1])
        return rows

    def bleu_4(self, weights: dict[str, float], drawn: Sequence[int] | None = None) -> float:
        """Of all blind tasks, or of these of them, and versions in these proportions."""
        every = range(len(self.pairs))
        sums = [0.0] * 10
        for version, weight in weights.items():
            own = [place for place in every if self.pairs[place][0] == version]
            own = [place for place in (every if drawn is None else drawn) if self.pairs[place][0] == version] or own
            for column in range(10):
                sums[column] += weight * len(every) * sum(self.statistics[place][column] for place in own) / len(own)
        if not sums[0]:
            return 0.0
        logs = [math.log((sums[n] or 0.1) / sums[4 + n]) for n in range(4)]
        return 100 * math.exp(sum(logs) / 4 + min(0.0, 1 - sums[9] / sums[8]))

    @cached_property
    def resampled(self) -> list[list[int]]:
        tasks = len(self.pairs)
        return np.random.default_rng(1).integers(tasks, size=(1000, tasks)).tolist()

    def blind_bleu_4(self, version: str) -> tuple[str, str]:
        pairs = [pair for pair in self.pairs if pair[0] == version]
        value = 100 * corpus_bleu(
            [references for _, _, references in pairs],
            [words for _, words, _ in pairs],
            smoothing_function=SmoothingFunction().method1,
        )
        assert value == pytest.approx(self.bleu_4({version: 1.0}))
        low, high = quantiles([self.bleu_4({version: 1.0}, drawn) for drawn in self.resampled], 0.025, 0.975)
        return f"{value:.1f} {in_brackets(low, high, 1)}", str(len(pairs))

    def warning(self) -> str:
        """The sentence on people who wave drafts through."""
        half = len(self.honest) // 2
        halves = self.honest[:half], self.honest[half:]
        kept = [sum(row["texts"] == [row["draft_text"]] for row in each) for each in halves]
        shares = [number / len(each) for number, each in zip(kept, halves, strict=True)]
        pooled = sum(kept) / len(self.honest)
        error = math.sqrt(pooled * (1 - pooled) * sum(1 / len(each) for each in halves))
        p = 1 - NormalDist().cdf((shares[1] - shares[0]) / error)
        mixes = [Counter(row["draft_version"] for row in each) for each in halves]
        weights = [{name: count / mix.total() for name, count in mix.items()} for mix in mixes]
        scores = [self.bleu_4(each) for each in weights]
        differences = [self.bleu_4(weights[1], drawn) - self.bleu_4(weights[0], drawn) for drawn in self.resampled]
        low, high = quantiles(differences, 0.05, 0.95)
        shown = "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
        assert p < 0.05
        assert low > 0
        return (
            f"Unedited acceptance rose from {shares[0]:.1%} of {len(halves[0])} to {shares[1]:.1%} of {len(halves[1])} "
            f"(one-sided z test of two proportions: {shown}), and so did the drafts: BLEU-4 of the drafts on "
            f"{len(self.pairs)} blind tasks went from {scores[0]:.1f} to {scores[1]:.1f} (change "
            f"{scores[1] - scores[0]:+.1f}, 90 % bootstrap interval {low:+.1f} to {high:+.1f})."
        )

    def score(self) -> tuple[str, list[str]]:
        """The sentence on the score, and the points of the plot beside it."""
        rows = [row for row in self.drafted if row["task_id"] in self.signals]
        accepted = [row["edits"] <= 1 for row in rows]
        signals = values([self.signals[row["task_id"]] for row in rows])
        chances = cross_fitted(signals, np.array(accepted)).tolist()
        order = sorted(range(len(rows)), key=chances.__getitem__)
        number = min(15, len(rows) // 10)
        longer = len(rows) % number  # of the bins have one draft more
        points, error = [], 0.0
        for place in range(number):
            size = len(rows) // number + (place < longer)
            own, order = order[:size], order[size:]
            chance, right = sum(chances[each] for each in own) / size, sum(accepted[each] for each in own)
            points.append(f"chance {chance:.0%}: {wilson(right, size)} of {size} accepted")
            error += abs(chance * size - right) / len(rows)
        base = sum(accepted) / len(rows)
        brier = sum((c - a) ** 2 for c, a in zip(chances, accepted, strict=True)) / len(rows)
        good, bad = ([c for c, a in zip(chances, accepted, strict=True) if a == kind] for kind in (True, False))
        above = sum((g > b) + (g == b) / 2 for g, b in product(good, bad)) / (len(good) * len(bad))
        return (
            f"Score: the chance that a draft is accepted with at most one word changed, learned from {len(rows)} "
            f"corrections ({base:.0%} were); of those left out: wrong by {error:.3f} on average (ECE), Brier score "
            f"{brier:.3f} ({base * (1 - base):.3f} without signals), AUROC {above:.2f}."
        ), points

    def estimate(self) -> str:
        """The sentence on the next hundred corrections."""
        x = [math.log(1 + learned / 25) for learned in VERSIONS.values()]
        edits = [[row["edits"] for row in self.honest_of(version)] for version in VERSIONS]
        means, weights = [sum(each) / len(each) for each in edits], [len(each) for each in edits]

        def fit(y: Sequence[float]) -> Callable[[float], float]:
            total = sum(weights)
            mid_x = sum(w * a for w, a in zip(weights, x, strict=True)) / total
            mid_y = sum(w * b for w, b in zip(weights, y, strict=True)) / total
            slope = sum(w * (a - mid_x) * (b - mid_y) for w, a, b in zip(weights, x, y, strict=True))
            slope /= sum(w * (a - mid_x) ** 2 for w, a in zip(weights, x, strict=True))
            return lambda n: max(0.0, mid_y + slope * (math.log(1 + n / 25) - mid_x))

        line = fit(means)
        within = sum((e - m) ** 2 for each, m in zip(edits, means, strict=True) for e in each) / (sum(weights) - 3)
        about = sum(
            w * (m - line(n)) ** 2 for w, m, n in zip(weights, means, VERSIONS.values(), strict=True)
        )  # one degree of freedom is left
        wider = math.sqrt(max(1.0, about / within))
        chance, drawn = np.random.default_rng(1), []
        for each in edits:
            counts = Counter(each)
            shares = [counts[value] / len(each) for value in sorted(counts)]
            times = chance.multinomial(len(each), shares, size=1000).tolist()
            drawn.append([sum(t * v for t, v in zip(row, sorted(counts), strict=True)) / len(each) for row in times])
        lines = [
            fit([m + wider * (b - m) for m, b in zip(means, row, strict=True)]) for row in zip(*drawn, strict=True)
        ]
        number = len(self.rows)
        falls = [each(number) - each(number + 100) for each in lines]
        low, high = quantiles(falls, 0.025, 0.975)
        assert low > 0
        assert high > 0.1
        return (
            f"The next 100 corrections are expected to lower edits from {line(number):.1f} to {line(number + 100):.1f} "
            f"words a draft (a fall of {line(number) - line(number + 100):.2f}, 95 % interval {low:.2f} to {high:.2f})."
        )


@pytest.fixture(scope="module")
def expected(data: Path) -> Project:
    return Project(data)


def test_every_number_on_the_page_follows_from_the_rows(data: Path, expected: Project, tmp_path: Path) -> None:
    result = run(data, "--project", 1, "--out", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text()
    rows = [expected.row(name, expected.of(name), expected.blind_bleu_4(name)) for name in VERSIONS]
    rows.append(expected.row("all drafts", expected.drafted, ("–", "–")))
    order = list(dict.fromkeys(row["annotator"] for row in expected.rows if row["annotator"]))
    for number, annotator in enumerate([*order, None], start=1):
        given = expected.of(annotator=annotator)
        lead = middle(row["lead_time_seconds"] for row in given)
        without = middle(row["lead_time_seconds"] for row in expected.blind if row["annotator"] == annotator)
        last = seconds(*without), seconds(*saved_by(without, lead))
        rows.append(expected.row(f"annotator {number}" if annotator else "nobody", given, last))
    for name, tasks in (
        ("selected by a strategy", CHOSEN),
        ("selected at random", CONTROLS),
        ("not selected", {*range(1, 221)} - {*CHOSEN, *CONTROLS}),
    ):
        rows.append(expected.row(name, [row for row in expected.drafted if row["task_id"] in tasks], ()))
    assert [row for row in tables(page) if row[0]] == rows
    total = dict(zip(tables(page)[0], rows[3], strict=True))
    lead = middle(row["lead_time_seconds"] for row in expected.drafted)
    without = middle(row["lead_time_seconds"] for row in expected.blind)
    cards = [total[name] for name in ("unchanged", "within a word", "words changed a draft", "keystrokes saved")]
    cards += [seconds(*lead), seconds(*without), seconds(*saved_by(without, lead))]
    reasons = Counter(reason for row in expected.drafted for reason in row["reasons"])
    copied = sum(bool(row["draft_text"]) and not row["draft_version"] for row in expected.rows)
    sentences = [
        f"{len(expected.rows)} corrections: {len(expected.drafted)} of drafts, {len(expected.blind)} of blind tasks, "
        f"{copied} of copied corrections.",
        expected.warning(),
        expected.estimate(),
        expected.score()[0],
    ]
    points = [
        f"{name}, {learned} corrections learned: {expected.row(name, expected.honest_of(name), ())[4]} words"
        for name, learned in VERSIONS.items()
    ]
    bins = expected.score()[1]
    charts = [*bins, *points, "; ".join(points), *(f"{row[0]} {row[2]}" for row in rows[:3])]
    charts += [f"{reason} {times}" for reason, times in reasons.items()]
    known = {*sentences, *charts, *cards, *(cell for row in rows for cell in row)}
    assert digits_of(page) - digits_of(" ".join(known)) <= {"1", "95", "4"}, "of the project, 95 % and BLEU-4"
    texts = texts_of(page)
    assert [sentence for sentence in sentences if sentence not in texts] == []
    assert [point for point in (*points, *bins, "; ".join(bins)) if point not in texts] == []
    assert "; ".join(f"{row[0]} {row[2]}" for row in rows[:3]) in texts, "the chart of what was accepted"
    shown = re.findall(r'<div class="card"><span>[^<]*</span><b>([^<]*)</b><small>([^<]*)</small>', page)
    assert [f"{value}{bounds}" for value, bounds in shown] == cards
    assert "; ".join(f"{reason} {times}" for reason, times in reasons.most_common()) in texts


def tables(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr.*?>(.*?)</tr>", page, re.S)
    return [re.findall(r"<t[dh]>(.*?)</t[dh]>", row, re.S) for row in rows]


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script(data: Path, tmp_path: Path) -> None:
    assert run(data, "--project", 1, "--out", tmp_path / "page.html").exit_code == 0
    page = parsed((tmp_path / "page.html").read_text())
    assert page.addresses == []
    assert not page.tags & {"script", "link", "iframe", "img", "object", "embed"}
    assert {"svg", "title", "desc"} <= page.tags


def test_the_terminal_and_json_have_the_same_figures(data: Path, expected: Project) -> None:
    shown = run(data, "--project", 1).output
    row = expected.row("p1-v1", expected.of("p1-v1"), expected.blind_bleu_4("p1-v1"))
    [line] = [line for line in shown.splitlines() if line.startswith("p1-v1")]
    assert [cell for cell in (*row[:5], *row[9:13]) if cell not in line] == []
    assert expected.warning() in shown
    assert expected.estimate() in shown
    assert expected.score()[0] in shown
    found = json.loads(run(data, "--project", 1, "--json").output)
    assert [each["name"] for each in found["versions"]] == list(VERSIONS)
    assert found["versions"][1]["corrections"] == len(expected.of("p1-v1"))
    lead = middle(row["lead_time_seconds"] for row in expected.drafted)
    assert [found["total"]["seconds"][name] for name in ("value", "low", "high")] == pytest.approx(lead)
    assert found["waving"]["state"] == "fine"
    assert found["curve"]["state"] == "falls"


def test_annotators_have_no_names_but_where_they_are_asked_for(data: Path, expected: Project) -> None:
    order = list(dict.fromkeys(row["annotator"] for row in expected.rows if row["annotator"]))
    for flags, names in (
        ((), ["annotator 1", "annotator 2", "annotator 3", "nobody"]),
        (("--names",), [*(f"user {number}" for number in order), "nobody"]),
    ):
        found = json.loads(run(data, "--project", 1, "--json", *flags).output)
        assert [each["name"] for each in found["annotators"]] == names
        assert [each["corrections"] for each in found["annotators"]] == [
            len(expected.of(annotator=annotator)) for annotator in (*order, None)
        ]


def test_a_project_whose_drafts_nobody_has_corrected_yet(data: Path, tmp_path: Path) -> None:
    result = run(data, "--project", 2, "--out", tmp_path / "page.html")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first == "Project 2: 1 correction: 1 of tasks that had no draft."
    assert second == "No draft has been corrected yet."
    assert second in texts_of((tmp_path / "page.html").read_text())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--project", 7], "Project 7 has no corrections to report on; other projects are 1, 2."),
        (["--project", 1, "--out", "/proc/x/page.html"], "/proc/x/page.html cannot be written: "),
    ],
)
def test_what_goes_wrong_is_one_sentence(data: Path, arguments: list[object], said: str) -> None:
    result = run(data, *arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert said in result.output.strip().splitlines()[-1]


def test_words_that_are_asked_for_again_and_again_are_told_where_drafts_lack_them(tmp_path: Path) -> None:
    store = Store(settings(tmp_path).database_url)
    store.migrate()
    store.add_drafts(1, [draft(number, text="" if number == 9 else "a red car") for number in range(1, 10)])
    asked = {1: ("Bus, red",), 2: ("a bus", "bus..."), 3: ("bus",), 4: ("Copacabana",), 5: ("copacabana",), 9: ("bus",)}
    store.record(saved(*(correction(number, hints=asked.get(number, ())) for number in range(1, 10))))
    assert "Asked for in hints, and not in the draft: bus 3.\n" in run(tmp_path, "--project", 1).output
    assert json.loads(run(tmp_path, "--project", 1, "--json").output)["hints"] == {"bus": 3}
    store.record(saved(correction(6, second=5, hints=("Copacabana",))))
    assert "not in the draft: bus 3, copacabana 3.\n" in run(tmp_path, "--project", 1).output
