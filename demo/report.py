"""The result of the demo: a table of the model versions, and whether the loop worked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from demo.annotator import Submission
from training.runtime.console import table

HEADINGS = ("version", "tasks", "drafts kept", "mean word edits", "BLEU-4 held out", "champion's", "pairs", "verdict")


def version_table(versions: Sequence[Mapping[str, Any]], submissions: Sequence[Submission]) -> str:
    """A table with one row per version, oldest first."""
    rows = [HEADINGS]
    for version in versions:
        mine = [s for s in submissions if s.version == version["name"] and s.draft]
        verdict = version["verdict"] or {}
        rows.append(
            (
                version["name"],
                str(len(mine)),
                f"{mean(s.kept for s in mine):.0%}" if mine else "-",
                f"{mean(s.edits for s in mine):.2f}" if mine else "-",
                _score(verdict.get("candidate_score")),
                _score(verdict.get("champion_score")),
                str(verdict.get("pairs", "-")),
                _decision(version),
            )
        )
    return table(rows, "<" * len(HEADINGS))


def failures_of(
    versions: Sequence[Mapping[str, Any]], submissions: Sequence[Submission], retrains: Sequence[Mapping[str, Any]]
) -> list[str]:
    """A sentence for each thing that did not work."""
    failures = []
    drafts = [s for s in submissions if s.draft]  # blind tasks show none
    drafted = [v["name"] for v in versions if any(s.version == v["name"] for s in drafts)]
    promoted = [v for v in versions if v["state"] == "passed"]  # a later verdict on more pairs may say "hold"
    if len(promoted) < 2:
        failures.append(f"{len(promoted)} versions were promoted after the starter; 2 are needed.")
    if any(s.version == "none" for s in submissions):
        failures.append("Some tasks opened without a draft.")
    if len(drafted) > 1:
        first, last = ([s.edits for s in drafts if s.version == name] for name in (drafted[0], drafted[-1]))
        if not mean(last) < mean(first):
            failures.append(f"Mean word edits did not fall: {mean(first):.2f} to {mean(last):.2f}.")
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
