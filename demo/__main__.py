"""`make demo`: rounds of captioning, each followed by a retrain and the gate, and a table of the versions."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from backend.domain.errors import CaptionerError
from backend.system.ports import free_port
from backend.up.launch import Launch
from backend.up.steps import say
from demo.annotator import Submission
from demo.project import Project
from demo.report import failures_of, version_table
from training.data.scenes import closest, is_true, load_scenes, write


@click.command()
@click.option("--seed", default=1, show_default=True, help="Seed of the scenes; those of trainings are fixed.")
@click.option(
    "--rounds", default=4, show_default=True, help="Rounds that end in a retrain; a last round only measures."
)
@click.option("--tasks", default=150, show_default=True, help="Tasks captioned in each round.")
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="A new folder for the demo.")
def main(seed: int, rounds: int, tasks: int, data_dir: Path) -> None:
    """Run the loop with a simulated annotator. Exits with 1 if the loop fails."""
    begun = time.monotonic()
    data_dir = data_dir.absolute()
    if (data_dir / "captioner.db").exists():
        raise click.ClickException(f"{data_dir} holds an earlier demo: remove it, or choose another --data-dir.")
    flags = ["--scenes", "0", "--retrain-every", "0", "--promotion", "auto"]
    flags += ["--port", str(free_port()), "--label-studio-port", str(free_port())]
    try:
        with Launch(data_dir, *flags) as state:
            project = Project(state, data_dir)
            submissions = play(project, data_dir / "demo-scenes", seed, rounds, tasks)
            versions, retrains, drafts = project.versions(), project.retrains(), project.drafts_by_version()
    except CaptionerError as error:
        raise click.ClickException(str(error)) from error
    say("\n" + version_table(versions, drafts))
    say(f"\nSeed {seed}, {time.monotonic() - begun:.0f} s.")
    failures = failures_of(versions, drafts, submissions, retrains)
    for failure in failures:
        say(f"FAILED: {failure}")
    sys.exit(1 if failures else 0)


def play(project: Project, folder: Path, seed: int, rounds: int, tasks: int) -> list[Submission]:
    """Caption `tasks` new scenes per round; after each round but the last, retrain."""
    write(folder, (rounds + 1) * tasks, seed=1000 + seed, world="full", side=256)
    scenes = load_scenes(folder)

    def correct(image: Path, draft: str) -> str:
        """The draft if it is true of the scene, else the true caption with the fewest word edits from it."""
        scene = scenes[image.name]
        return draft if is_true(draft, scene) else closest(draft, scene)

    images = [folder / name for name in sorted(scenes)]
    submissions: list[Submission] = []
    for number in range(1, rounds + 2):
        batch = images[(number - 1) * tasks : number * tasks]
        title = f"Round {number}" if number <= rounds else "Last round"
        submissions += project.caption(batch, correct, title)
        if number <= rounds:
            project.retrain(number)
    return submissions


if __name__ == "__main__":
    main()
