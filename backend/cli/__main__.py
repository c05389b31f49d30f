"""`python -m backend.cli`: the command `captioner`."""

from backend.cli.main import main

main()
