"""The output of `up`: each step with a spinner and the seconds it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console

_console = Console(highlight=False)


@contextmanager
def step(doing: str, done: str | None = None, spinner: bool = True) -> Iterator[None]:
    """Show a spinner while the block runs on a terminal, then one line with the time, or a cross after an error.

    Without `spinner` for a block that shows its own progress.
    """
    begun = time.monotonic()
    try:
        if spinner and sys.stdout.isatty():
            with _console.status(f"{doing} …"):
                yield
        else:
            yield
    except BaseException:
        _print(f"[red]✗[/red] {doing} ({time.monotonic() - begun:.1f} s)")
        raise
    _print(f"[green]✓[/green] {done or doing} ({time.monotonic() - begun:.1f} s)")


def say(text: str) -> None:
    """Print one line without interpreting markup."""
    _print(text, markup=False, soft_wrap=True)


def _print(text: str, **options: bool) -> None:
    with suppress(OSError):  # a full disk, or a reader that has gone, must not stop what runs
        _console.print(text, **options)  # type: ignore[arg-type]
