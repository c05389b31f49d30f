"""The result of the demo: a table of the model versions, and whether the loop worked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from demo.annotator import Submission
from training.runtime.console import table

HEADINGS = ("version", "corrected", "kept", "words changed a word", "BLEU-4 held out", "champion's", "pairs", "verdict")


def version_table(versions: Sequence[Mapping[str, Any]], drafts: Sequence[Mapping[str, Any]]) -> str:
    """A table with one row per version, oldest first; `drafts` say how its drafts were changed."""
    changed = {each["version"]: each for each in drafts}
    rows = [HEADINGS]
    for version in versions:
        mine = changed.get(version["name"])
        verdict = version["verdict"] or {}
        rows.append(
            (
                version["name"],
                str(mine["corrections"]) if mine else "0",
                f"{mine['kept_share']:.0%}" if mine else "-",
                f"{mine['edits']:.2f}" if mine else "-",
                _score(verdict.get("candidate_score")),
                _score(verdict.get("champion_score")),
                str(verdict.get("pairs", "-")),
                _decision(version),
            )
        )
    return table(rows, "<" * len(HEADINGS))


def failures_of(
    versions: Sequence[Mapping[str, Any]],
    drafts: Sequence[Mapping[str, Any]],
    submissions: Sequence[Submission],
    retrains: Sequence[Mapping[str, Any]],
) -> list[str]:
    """A sentence for each thing that did not work."""
    failures = []
    promoted = [v for v in versions if v["state"] == "passed"]  # a later verdict on more pairs may say "hold"
    if len(promoted) < 2:
        failures.append(f"{len(promoted)} versions were promoted after the starter; 2 are needed.")
    if any(s.version == "none" for s in submissions):
        failures.append("Some tasks opened without a draft.")
    if len(drafts) > 1 and not drafts[-1]["edits"] < drafts[0]["edits"]:
        both = f"{drafts[0]['edits']:.2f} a word in the first version's drafts, {drafts[-1]['edits']:.2f} in the last's"
        failures.append(f"Annotators did not change fewer words: {both}.")
    failed = [retrain for retrain in retrains if retrain["state"] == "failed"]
    failures += [f"Retrain of {retrain['snapshot']} failed: {retrain['outcome']}" for retrain in failed]
    return failures


def _score(score: Mapping[str, Any] | None) -> str:
    return f"{score['value']:.1f}" if score else "-"


def _decision(version: Mapping[str, Any]) -> str:
    verdict = version["verdict"]
    if not verdict:
        return "-"
    if version["state"] == "passed" and verdict["decision"] != "promote":
        return f"promoted, then {verdict['decision']} on more pairs"
    return str(verdict["decision"]) + (" (provisional)" if verdict.get("provisional") else "")
