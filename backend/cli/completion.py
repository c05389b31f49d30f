"""`captioner completion`: the script by which a shell completes what is typed."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from backend.cli.options import example

PROGRAM, VARIABLE = "captioner", "_CAPTIONER_COMPLETE"
"""The variable is the one that click makes of the name."""


@click.command(
    epilog=example(
        'eval "$(captioner completion bash)"',
        "captioner completion fish > ~/.config/fish/completions/captioner.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    Commands, options, files, model versions and projects are completed once the shell has run it. Put the line of the
    first example into ~/.bashrc, or with zsh in place of bash into ~/.zshrc; fish reads the file of the second.
    """
    kind = get_completion_class(shell)
    assert kind
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
