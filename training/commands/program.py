"""A program of commands: their help in sections, their errors as one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from training.commands import answers
from training.errors import TrainingError
from training.runtime.files import is_full


class Program(click.Group):
    """A group with its commands in sections of the help, in the given order.

    Errors of this project end a command as one line on stderr with a non-zero exit status, not as a traceback; with
    --json stdout has `{"error": "…"}`, for mistakes in the arguments too.
    """

    def __init__(
        self,
        *given: Any,
        sections: Mapping[str, Sequence[click.Command]],
        errors: tuple[type[Exception], ...] = (TrainingError,),
        **named: Any,
    ) -> None:
        super().__init__(*given, **named)
        for command in (each for commands in sections.values() for each in commands):
            self.add_command(command)
        self.sections = sections
        self._errors = errors

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self.commands))
        for title, commands in self.sections.items():
            with formatter.section(title):
                limit = formatter.width - formatter.current_indent - widest - 2
                formatter.write_dl(
                    [(f"{command.name:{widest}}", command.get_short_help_str(limit)) for command in commands]
                )

    def invoke(self, ctx: click.Context) -> Any:
        answers.expect(ctx)
        try:
            try:
                return super().invoke(ctx)
            except self._errors as error:
                raise click.ClickException(str(error)) from error
            except OSError as error:
                if not is_full(error):
                    raise
                raise click.ClickException(f"The disk is full: {error}. Free some space and try again.") from error
        except click.ClickException as error:
            answers.answer_error(ctx, error.format_message())
            raise
