"""What a command answers: text for people or, with --json, one JSON value for programs and nothing else on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click

from training.commands.writing import Output, write_json

STDOUT = Path("-")
_ASKED, _ANSWERED = "captioner.json", "captioner.answered"
"""Keys in the context's notes, which a command shares with its group."""


def json_option(command: Any) -> Any:
    """The flag --json, for a command that ends with `answer`. It is read first, for mistakes in other arguments."""
    return click.option(
        "--json", is_flag=True, is_eager=True, expose_value=False, callback=_note, help="Answer as JSON, for programs."
    )(command)


def json_file_option(command: Any) -> Any:
    """The option --json [FILE], for a command that ends with `answer_in`."""
    return click.option(
        "--json",
        "json_file",
        type=_JsonFile(),
        is_flag=False,
        flag_value=str(STDOUT),
        is_eager=True,
        callback=_note,
        metavar="[FILE]",
        help="Write the answer as JSON here; without FILE, or with -, on standard output in place of the text.",
    )(command)


class _JsonFile(Output):
    """A file for JSON; one that exists under another kind of name is not what `--json IMAGE` meant to replace."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value) == str(STDOUT):
            return STDOUT
        path: Path = super().convert(value, param, ctx)
        if path.suffix.lower() != ".json" and path.exists():
            self.fail(f"{path} exists and is no .json file: write --json - for standard output.", param, ctx)
        return path


def as_json() -> bool:
    """Whether the running command answers in JSON on stdout."""
    return bool(click.get_current_context().meta.get(_ASKED))


def say(sentence: str) -> None:
    """Print a sentence that is no part of the answer: on stdout, or with --json on stderr."""
    click.echo(sentence, err=as_json())


def show(text: str) -> None:
    """Print a part of the answer for people; nothing with --json."""
    if not as_json():
        click.echo(text)


def answer(value: Any, text: str | Callable[[], str] = "") -> None:
    """Print the value as JSON where --json asks for it, else the text."""
    if as_json():
        click.get_current_context().meta[_ANSWERED] = True
        click.echo(json.dumps(value, indent=2, default=str))
    elif text:
        click.echo(text if isinstance(text, str) else text())


def answer_in(json_file: Path | None, value: Any) -> None:
    """Write the value as JSON where --json [FILE] asks for it. Raises TrainingError."""
    if json_file == STDOUT:
        answer(value)
    elif json_file:
        write_json(json_file, value)


def expect(ctx: click.Context) -> None:
    """Note that --json stands among a group's arguments, for an error found before the option itself is read."""
    words = [*ctx.args, str(STDOUT)]
    ctx.meta[_ASKED] = any(flag == "--json" and follows.startswith("-") for flag, follows in pairwise(words))


def answer_error(ctx: click.Context, sentence: str) -> None:
    """Print the error as JSON where --json asks for it and nothing else was answered."""
    if ctx.meta.get(_ASKED) and not ctx.meta.get(_ANSWERED):
        click.echo(json.dumps({"error": sentence}))


def _note(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if value is not None and value is not False:
        ctx.meta[_ASKED] = value is True or value == STDOUT
    return value
