"""What happened to a data set on its way in: one warning a kind, with its count and up to three examples."""

from __future__ import annotations

import logging
from collections.abc import Sequence

EXAMPLES = 3

logger = logging.getLogger(__name__)


def warn(done: str, examples: Sequence[str], total: int, what: str) -> None:
    """Log `done` ("Left out") of each of `examples` among `total` of `what`; nothing where there are none."""
    if examples:
        more = f" and {len(examples) - EXAMPLES} more" if len(examples) > EXAMPLES else ""
        shown = "; ".join(examples[:EXAMPLES])
        logger.warning("%s %d of %d %s: %s%s.", done, len(examples), total, what, shown, more)
