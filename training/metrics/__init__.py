"""Scores of captions against references: of corpora to report, of single captions as rewards. No torch.

Scores to report split texts with `training.vocabulary.tokenize`, refuse what cannot be scored (`score.split`) and carry
a signature. Rewards take tokens of any kind, so that self-critical training scores word numbers.
"""

from training.metrics.bleu_score import bleu
from training.metrics.cider_score import CiderD, cider_d, cider_d_each
from training.metrics.meteor_score import meteor
from training.metrics.report import Report, score_all
from training.metrics.rouge_score import rouge_l
from training.metrics.score import MetricUnavailableError, Score
from training.metrics.words import distinct_words, mean_length, word_edits

__all__ = [
    "CiderD",
    "MetricUnavailableError",
    "Report",
    "Score",
    "bleu",
    "cider_d",
    "cider_d_each",
    "distinct_words",
    "mean_length",
    "meteor",
    "rouge_l",
    "score_all",
    "word_edits",
]
