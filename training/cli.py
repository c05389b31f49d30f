"""The commands of a captioner without Label Studio: `commands` for `captioner`, and `python -m training.cli`."""

from __future__ import annotations

import logging

import click

from training.commands.caption import caption
from training.commands.compare import compare
from training.commands.evaluate import evaluate
from training.commands.program import Program
from training.commands.train import STARTER_SCENES, STARTER_SEED, train

__all__ = ["STARTER_SCENES", "STARTER_SEED", "commands", "main"]

commands: list[click.Command] = [train, evaluate, compare, caption]


@click.group(cls=Program, sections={"Commands": commands}, context_settings={"max_content_width": 110})
def main() -> None:
    """Train, evaluate and use captioners without Label Studio."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")


if __name__ == "__main__":
    main()
