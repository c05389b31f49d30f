"""What commands show on a terminal: counts, tables and progress bars; rich is imported when one of these is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

WIDEST = 10_000  # columns of a table; a terminal wraps a long line, a pipe must not
LINE_SECONDS = 60.0  # between lines of progress where there is no terminal

Item = TypeVar("Item")


def counted(number: int, one: str, more: str | None = None) -> str:
    """The number with its noun: "1 image", "2 images"; `more` is a plural that takes more than an s."""
    return f"{number} {one if number == 1 else more or one + 's'}"


def table(rows: Sequence[Sequence[str]], alignment: str) -> str:
    """Plain text with the rows below each other; `alignment` has a `<` or a `>` for each column."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for side in alignment:
        grid.add_column(justify="left" if side == "<" else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=WIDEST, color_system=None)
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


class ProgressBar:
    """A bar on stderr that disappears at the end of its block; where stderr is no terminal, one line a minute."""

    def __init__(self, description: str = "") -> None:
        self._description = description
        self._bar: Progress | None = None
        self._printed = time.monotonic()

    def show(self, done: int, total: int, description: str | None = None, note: str = "") -> None:
        """Show that `done` of `total` steps are done; a new description starts a new bar, `note` stands at its end."""
        renamed = description is not None and description != self._description
        self._description = description or self._description
        if sys.stderr.isatty():
            self._bar = self._bar or _started()
            task = self._bar.task_ids[0]
            if renamed:
                self._bar.reset(task)
            self._bar.update(task, completed=done, total=total, description=self._description, note=note)
        elif time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            print(f"{self._description}: {done} of {total} {note}".rstrip(), file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()


def tracked(items: Sequence[Item], description: str) -> Iterator[Item]:
    """The items, with a progress bar over them."""
    with ProgressBar(description) as bar:
        for done, item in enumerate(items, start=1):
            yield item
            bar.show(done, len(items))


def _started() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    description, note = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[note]}"))
    columns = (description, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note)
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    bar.add_task("", total=None, note="")
    bar.start()
    return bar
