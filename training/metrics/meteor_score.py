"""METEOR: words aligned with a reference's, also by stem and synonym, in as few unbroken runs as possible."""

from __future__ import annotations

from collections.abc import Sequence

from training.metrics.meteor_jar import RELEASE, jar_lacks, score_by_jar
from training.metrics.score import MetricUnavailableError, Score
from training.metrics.texts import corpus, split
from training.vocabulary import TOKENIZER


def meteor(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """METEOR x100 by the jar of pycocoevalcap where it can run, else by nltk. The signature says which.

    The jar is METEOR 1.5 for English (Denkowski and Lavie, 2014), the one that captioning papers report. nltk's is an
    older formula (Lavie and Agarwal, 2007) with WordNet's synonyms, averaged over images: other numbers. Raises
    MetricUnavailableError where neither can run, TrainingError for anything that would be scored silently wrong.
    """
    tokens, expected = split(hypotheses, references)
    if lacking := jar_lacks():
        value, how = _by_nltk(tokens, expected, lacking)
    else:
        value, how = score_by_jar(tokens, expected), f"jar:{RELEASE}|lang:en|norm"
    return Score("METEOR", 100 * value, f"meteor|{how}|tok:{TOKENIZER}", corpus(references))


def _by_nltk(tokens: list[list[str]], expected: list[list[list[str]]], lacking: str) -> tuple[float, str]:
    """The score from 0 to 1 and how it was computed. Raises MetricUnavailableError without WordNet."""
    import nltk
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import meteor_score

    try:
        wordnet.ensure_loaded()
    except LookupError as error:
        raise MetricUnavailableError(
            f"METEOR needs {lacking}; or, for nltk's older formula, WordNet (python -m nltk.downloader wordnet)."
        ) from error
    each = [meteor_score(captions, words, wordnet=wordnet) for words, captions in zip(tokens, expected, strict=True)]
    release = ".".join(nltk.__version__.split(".")[:2])
    return sum(each) / len(each), f"nltk:{release}|wordnet"
