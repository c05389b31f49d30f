"""What `up` shows: each step with its progress and the seconds it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_console = Console(highlight=False)


@contextmanager
def step(doing: str, done: str | None = None, spinner: bool = True) -> Iterator[None]:
    """A spinner while the block runs on a terminal, then one line with the time; on a failure the line says so.

    A block that shows its own progress wants no `spinner`.
    """
    begun = time.monotonic()
    try:
        if spinner and sys.stdout.isatty():
            with _console.status(f"{doing} …"):
                yield
        else:
            yield
    except BaseException:
        _console.print(f"[red]✗[/red] {doing} ({time.monotonic() - begun:.1f} s)")
        raise
    _console.print(f"[green]✓[/green] {done or doing} ({time.monotonic() - begun:.1f} s)")


def say(text: str) -> None:
    """One plain line; text is never read as markup."""
    _console.print(text, markup=False, soft_wrap=True)
