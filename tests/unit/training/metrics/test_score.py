import pytest

from training.errors import TrainingError
from training.metrics import bleu, cider_d, cider_d_each, meteor, rouge_l, score_all

DOGS = ["a brown dog runs over the green grass", "the dog is running on grass"]


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d, cider_d_each, meteor, score_all])
@pytest.mark.parametrize(
    ("hypotheses", "references", "said"),
    [
        ([], [], "empty"),
        ("a dog", [DOGS], "list of texts"),
        (None, [DOGS], "list of texts"),
        (["a dog", None], [DOGS, DOGS], "list of texts"),
        (["a dog"], None, "texts of each image"),
        (["a dog"], ["a dog runs"], "image 0"),
        (["a dog"], [None], "image 0"),
        (["a dog"], [DOGS, DOGS], "1 hypotheses"),
        (["a dog"], [[]], "no reference"),
        (["a dog"], [["."]], "no reference"),
        (["a dog", "a"], [DOGS, [["a", "dog"]]], "image 1"),
    ],
)
def test_every_metric_refuses_what_would_be_scored_silently_wrong(metric, hypotheses, references, said) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TrainingError, match=said):
        metric(hypotheses, references)


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d])
def test_a_wordless_reference_changes_nothing(metric) -> None:  # type: ignore[no-untyped-def]
    said, cats = ["a brown dog", "a cat"], ["the cat sits", "a cat"]
    assert metric(said, [[*DOGS, " . "], cats]).value == metric(said, [DOGS, cats]).value


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d])
def test_case_and_punctuation_do_not_count(metric) -> None:  # type: ignore[no-untyped-def]
    assert metric(["A dog.", "two CATS"], [DOGS, ["cats"]]) == metric(["a dog", "two cats"], [DOGS, ["cats"]])


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d])
def test_a_corpus_of_empty_hypotheses_scores_nothing(metric) -> None:  # type: ignore[no-untyped-def]
    assert metric(["", ""], [DOGS, DOGS]).value == 0


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d])
def test_signature_states_what_makes_scores_comparable_and_counts_stand_apart(metric) -> None:  # type: ignore[no-untyped-def]
    one, two = metric(["a dog"], [DOGS]), metric(["a dog", "a cat"], [DOGS, ["a cat"]])
    assert one.signature == two.signature
    assert one.signature.endswith("|tok:captioner-1")
    assert (one.corpus, two.corpus) == ("refs:2|n:1", "refs:1-2|n:2")
