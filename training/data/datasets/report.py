"""Warnings about a data set: one for each kind of problem, with its count and up to three examples."""

from __future__ import annotations

import logging
from collections.abc import Sequence

EXAMPLES = 3

logger = logging.getLogger(__name__)


def warn(done: str, examples: Sequence[str], total: int, what: str) -> None:
    """Log "`done` 3 of `total` `what`: …" with some of the examples; nothing without examples."""
    if examples:
        more = f" and {len(examples) - EXAMPLES} more" if len(examples) > EXAMPLES else ""
        shown = "; ".join(examples[:EXAMPLES])
        logger.warning("%s %d of %d %s: %s%s.", done, len(examples), total, what, shown, more)
