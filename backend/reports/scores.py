"""What the score of a project's drafts means, and how far it can be trusted, for `captioner status`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backend.store.drafts.calibrations import LATEST
from backend.store.store import Store
from training.runtime.console import counted
from training.selection.calibration import LEAST, LEAST_OF_A_KIND


def report(store: Store, project_id: int) -> dict[str, Any]:
    """As JSON values. `reliability` was measured on corrections that the chances were not learned from, and is None
    while the score is no chance. `accepted` is how many were when learning was last tried."""
    learned, last = store.newest_calibration(project_id), store.newest_calibration(project_id, learned=False)
    return {
        "calibrated": learned is not None,
        "corrections": store.count_answered(project_id),
        "learned_from": min(learned.corrections, LATEST) if learned else 0,
        "learned_at": str(learned.made_at) if learned else None,
        "accepted": last.accepted if last else None,
        "reliability": learned.reliability if learned else None,
    }


def lines(score: Mapping[str, Any]) -> Iterable[str]:
    measured = score["reliability"]
    if not score["calibrated"]:
        so_far = f"{score['corrections']} so far"
        if score["accepted"] is not None:
            so_far += f", {score['accepted']} of them accepted"
        yield (
            f"  score        how likely the model finds its words; from {LEAST} corrections on, "
            f"of which {LEAST_OF_A_KIND} accept their draft "
            f"and {LEAST_OF_A_KIND} do not, the chance that a draft is accepted ({so_far})"
        )
    if measured:
        yield (
            f"  score        the chance that a draft is accepted with at most one word changed, learned from "
            f"{counted(score['learned_from'], 'correction')} ({measured['base_rate']:.0%} were)"
        )
        yield (
            f"               of those left out: wrong by {measured['ece']:.3f} on average (ECE), Brier score "
            f"{measured['brier']:.3f} ({measured['base_brier']:.3f} without signals), AUROC {measured['auroc']:.2f}"
        )
