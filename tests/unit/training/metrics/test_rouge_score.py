import pytest

from tests.unit.training.metrics.corpora import HYPOTHESES, REFERENCES, generate, numbered
from training.metrics import rouge_l

# pycocoevalcap 1.2 on ROWS, and on each of them alone.
RECORDED = 59.716002
RECORDED_EACH = [80.973451, 100, 0, 45.35316, 62.886598, 0, 52.586207, 100, 95.644599]


def test_rouge_l_is_that_of_pycocoevalcap() -> None:
    score = rouge_l(HYPOTHESES, REFERENCES)
    assert score.value == pytest.approx(RECORDED, abs=1e-4)
    each = [rouge_l([text], [captions]).value for text, captions in zip(HYPOTHESES, REFERENCES, strict=True)]
    assert each == pytest.approx(RECORDED_EACH, abs=1e-4)
    assert score.signature == "rougeL|beta:1.2|refs:best|tok:captioner-1"


@pytest.mark.parametrize("images", [1, 40])
def test_rouge_l_agrees_with_pycocoevalcap_on_generated_corpora(images: int) -> None:
    scorer = pytest.importorskip("pycocoevalcap.rouge.rouge", reason="pycocoevalcap is not installed")
    for seed in range(5):
        hypotheses, references = generate(seed, images)
        value, _ = scorer.Rouge().compute_score(*numbered(hypotheses, references))
        assert rouge_l(hypotheses, references).value == pytest.approx(100 * value, abs=1e-4)


def test_rouge_l_by_hand() -> None:
    # "a c d" is common to "a b c d" and the first reference, "b" to the second, which is but one word long.
    score = rouge_l(["a b c d"], [["a x c d y z"]])
    precision, recall = 3 / 4, 3 / 6
    assert score.value == pytest.approx(100 * 2.44 * precision * recall / (recall + 1.44 * precision))
    both = rouge_l(["a b c d"], [["a x c d y z", "b"]])
    precision, recall = 3 / 4, 1
    assert both.value == pytest.approx(100 * 2.44 * precision * recall / (recall + 1.44 * precision))
