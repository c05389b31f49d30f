"""ROUGE-L: the longest run of words, gaps allowed, that a caption shares with its references."""

from __future__ import annotations

from collections.abc import Sequence

from training.metrics.score import Score, corpus_score, split

BETA = 1.2
"""How many times as much recall counts as precision."""


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """ROUGE-L (Lin, 2004) x100, as by pycocoevalcap's `Rouge`: the mean over images.

    An image's F takes the best precision and the best recall, be they of different references. Raises TrainingError
    for anything that would be scored silently wrong.
    """
    tokens, expected = split(hypotheses, references)
    each = [_f_measure(words, captions) for words, captions in zip(tokens, expected, strict=True)]
    return corpus_score("ROUGE-L", 100 * sum(each) / len(each), f"rougeL|beta:{BETA:g}|refs:best", references)


def _f_measure(words: list[str], captions: list[list[str]]) -> float:
    common = [_common(words, caption) for caption in captions]
    if not any(common):
        return 0.0
    precision = max(common) / len(words)
    recall = max(count / len(caption) for count, caption in zip(common, captions, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common(left: list[str], right: list[str]) -> int:
    """Words of the longest common subsequence."""
    best = [0] * (len(right) + 1)  # of the words of `left` met so far and the first so many of `right`
    for word in left:
        diagonal = 0
        for column, other in enumerate(right, start=1):
            diagonal, best[column] = (
                best[column],
                diagonal + 1 if word == other else max(best[column], best[column - 1]),
            )
    return best[-1]
