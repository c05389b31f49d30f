"""Checks that run side by side, each for a few seconds at most, and what they find."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from backend.domain.errors import CaptionerError
from labeling_config import LabelingConfigError
from training.errors import TrainingError
from training.runtime.console import counted

SECONDS = 5.0
"""How long a check may take."""
AT_ONCE = 16
VALID_SECONDS, APART_SECONDS = 300.0, 30.0
"""Label Studio's access tokens are valid for the first; below the second, clocks agree."""


@dataclass(frozen=True)
class Finding:
    """What is wrong, and the command or setting that mends it. After a warning, drafts and corrections still flow."""

    problem: str
    remedy: str
    warning: bool = False


@dataclass(frozen=True)
class Check:
    """`look` finds what is wrong; `remedy` is what to do where it fails without saying so itself, or takes too long."""

    name: str
    look: Callable[[], Iterable[Finding]]
    remedy: str


@dataclass(frozen=True)
class Result:
    """What a check has found."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        return any(not finding.warning for finding in self.findings)


def run(checks: Sequence[Check]) -> list[Result]:
    """The results, in order. A check that takes too long is left running, and that is its finding."""
    results = []
    for first in range(0, len(checks), AT_ONCE):
        running = [_Running(check) for check in checks[first : first + AT_ONCE]]
        for each in running:
            each.start()
        deadline = time.monotonic() + SECONDS
        results += [each.result(deadline) for each in running]
    return results


def explained(error: Exception, remedy: str) -> Finding:
    """The finding of an error whose sentence says behind a semicolon what to do; `remedy` where it does not."""
    problem, _, told = str(error).partition("; ")
    return Finding(f"{problem.rstrip('.')}.", told[:1].upper() + told[1:] or remedy)


def clock(whose: str, ahead_seconds: float) -> Iterable[Finding]:
    """What to say of a clock that is so far ahead of this machine's."""
    apart = abs(ahead_seconds)
    if apart >= APART_SECONDS:
        way = "ahead of" if ahead_seconds > 0 else "behind"
        yield Finding(
            f"The clock of {whose} is {counted(round(apart), 'second')} {way} this machine's.",
            "Have both machines set their clocks by NTP (`timedatectl set-ntp true`): Label Studio's access tokens "
            "are valid for 300 seconds, and comparisons and retries are scheduled by the clock.",
            warning=apart < VALID_SECONDS,
        )


class _Running(threading.Thread):
    """One check; a daemon, so that one which never ends does not keep the process."""

    def __init__(self, check: Check) -> None:
        super().__init__(name=check.name, daemon=True)
        self._check = check
        self._found: list[Finding] = []

    def run(self) -> None:
        try:
            for finding in self._check.look():
                self._found.append(finding)
        except (CaptionerError, TrainingError, LabelingConfigError) as error:
            self._found.append(explained(error, self._check.remedy))
        except Exception as error:  # doctor goes on with what it can check
            self._found.append(Finding(f"The check failed ({type(error).__name__}: {error}).", self._check.remedy))

    def result(self, deadline: float) -> Result:
        self.join(max(0.0, deadline - time.monotonic()))
        findings = tuple(self._found)
        if self.is_alive():
            findings += (Finding(f"The check had no answer within {SECONDS:g} s.", self._check.remedy),)
        return Result(self._check.name, findings)
