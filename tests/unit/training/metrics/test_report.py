import pytest

from tests.unit.training.metrics.corpora import HYPOTHESES, REFERENCES
from training.metrics import MetricUnavailableError, Score, bleu, cider_d, cider_d_each, report, rouge_l, score_all

METEOR = Score("METEOR", 33.0, "meteor|jar:1.5")


def test_a_report_holds_every_score_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "meteor", lambda hypotheses, references: METEOR)
    found = score_all(HYPOTHESES, REFERENCES)
    assert list(found.scores.items()) == [
        *((f"bleu{n}", bleu(HYPOTHESES, REFERENCES, n)) for n in (1, 2, 3, 4)),
        ("rouge_l", rouge_l(HYPOTHESES, REFERENCES)),
        ("cider_d", cider_d(HYPOTHESES, REFERENCES)),
        ("meteor", METEOR),
    ]
    assert found.reasons == {}
    assert list(found.each) == cider_d_each(HYPOTHESES, REFERENCES)


def test_a_score_that_cannot_be_had_is_none_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(hypotheses: object, references: object) -> Score:
        raise MetricUnavailableError("METEOR needs Java.")

    monkeypatch.setattr(report, "meteor", lacking)
    found = score_all(HYPOTHESES, REFERENCES)
    assert found.scores["meteor"] is None
    assert found.reasons == {"meteor": "METEOR needs Java."}
