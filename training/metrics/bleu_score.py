"""BLEU of a corpus, for reports: how many of a caption's n-grams its references have."""

from __future__ import annotations

from collections.abc import Sequence

from training.errors import TrainingError
from training.metrics.score import Score, corpus_score, split


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], n: int = 4) -> Score:
    """Corpus BLEU-n (Papineni et al., 2002) x100 by nltk, with smoothing method 1 (Chen and Cherry, 2014).

    `references[i]` are the captions of the image that `hypotheses[i]` describes. An empty hypothesis is allowed and
    costs by the brevity penalty. Raises TrainingError for anything nltk would score silently wrong.

    pycocoevalcap's `Bleu` gives the same but in two cases. nltk counts one n-gram for a hypothesis shorter than n,
    pycocoevalcap none, so that each such hypothesis costs a little here. And where no n-gram of an order matches in
    the whole corpus, the numerator is 0.1 here and 1e-15 there.
    """
    tokens, expected = split(hypotheses, references)
    if n < 1:
        raise TrainingError(f"BLEU needs n of at least 1, not {n}.")
    # Imported here: nltk costs almost a second, and most users of this module count edits.
    import nltk
    from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

    smoothing = SmoothingFunction().method1
    value = 0.0
    if any(tokens):  # otherwise nltk gives 0, too, with a warning
        value = float(corpus_bleu(expected, tokens, weights=(1 / n,) * n, smoothing_function=smoothing))
    release = ".".join(nltk.__version__.split(".")[:2])
    return corpus_score(f"BLEU-{n}", 100 * value, f"bleu{n}|nltk:{release}|smooth:method1", references)
