"""Tables and progress on terminals, in pipes and in logs."""

import sys

import pytest

from training.runtime import console
from training.runtime.console import ProgressBar, table, tracked


def test_a_table_in_a_pipe_is_plain_text_on_one_line_a_row() -> None:
    long = "|".join(["signature"] * 60)
    rows = [("BLEU-4", "25.0", "[red]said[/red]"), ("CIDEr-D", "164.53", long)]
    assert table(rows, "<><").split("\n") == [
        "BLEU-4     25.0  [red]said[/red]",
        f"CIDEr-D  164.53  {long}",
    ]


def test_wide_characters_take_two_columns() -> None:
    assert table([("狗", "1"), ("ab", "2")], "<<") == "狗  1\nab  2"


def test_where_there_is_no_terminal_progress_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter([0.0, 1.0, 61.0, 61.0, 90.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(seconds))
    with ProgressBar("Images") as bar:
        bar.show(1, 10)
        bar.show(5, 10, "Epoch 1 of 2", "loss 2.000")
        bar.show(6, 10)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Epoch 1 of 2: 5 of 10 loss 2.000\n")


def test_on_a_terminal_a_bar_is_drawn_and_cleared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar() as bar:
        bar.show(3, 10, "Epoch 1 of 2", "loss 2.000")
        bar.show(4, 10, "Epoch 2 [of 2]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Epoch 2 [of 2]" in captured.err
    assert "4/10" in captured.err


def test_tracked_gives_the_items() -> None:
    assert list(tracked(range(3), "Counting")) == [0, 1, 2]
