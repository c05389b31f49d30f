"""What corrections teach: a captioner is retrained on 25 to 350 of them, as today and as version 0.1.0 did it.

    python -m benchmarks.adaptation --data flickr8k --out DIR [--seeds 3] [--quick]

Four scenarios of Flickr8k's images (see `adaptation_scenarios`): two new subjects, a house style, more of the same. A
simulated annotator corrects each draft to the nearest human caption; some corrections are held out, as the backend
holds them out, and teach nothing. Images that are neither learned nor chosen by score the drafts. The base's scored
images show what is forgotten. A second run with the same DIR goes on where the first was ended; without its
results.json it measures anew.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click

from backend.domain.splits import split_of
from backend.settings import Settings
from benchmarks import annotator
from benchmarks.adaptation_before import retrain_before
from benchmarks.adaptation_scenarios import Scenario, mentions, scenarios
from benchmarks.report import report
from benchmarks.trained import seconds, trained
from training import metrics
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import TrainingConfig
from training.continual.incremental import RetrainingData, retrain
from training.continual.interpolation import FEWEST_ROWS
from training.data import datasets, manifest
from training.data.manifest import Row
from training.errors import TrainingError
from training.evaluation.evaluate import hypotheses

CORRECTIONS = (25, 50, 100, 200, 350)
SCORED, EPOCHS = 400, 5
SEEDS_AT = 100
"""The number of corrections at which several seeds are averaged."""
MEANINGS = {
    "subject_100_word_share": "drafts of new winter images with a winter word after 100 corrections (target: 0.5)",
    "subject_100_edits_change": "words changed a word of the correction, over those of the base's drafts (-0.08)",
    "subject_100_cider_d_change": "CIDEr-D on new winter images, minus the base's (4)",
    "subject_350_over_anew": "CIDEr-D after 350 corrections over that of one trained anew on base and corrections (1)",
    "subject_350_base_change": "CIDEr-D on what the base knows, minus the base's (-2)",
    "style_50_follow_share": "drafts that follow the house style after 50 corrections (0.9)",
    "style_50_edits_change": "words changed a word of the correction, over those of the base's drafts (-0.25)",
    "same_worst_cider_d_change": "CIDEr-D after more of the same, minus the base's, at its worst (-1)",
}
"""Those of the table; the others are named scenario_corrections_figure, and before_… as 0.1.0 did it."""


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Flickr8k, original files.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for checkpoints and features.")
@click.option("--encoder", default="tf_efficientnet_lite2", show_default=True)
@click.option("--weights", default="imagenet", show_default=True, help="Of the encoder.")
@click.option("--seeds", default=3, show_default=True, help=f"Retrains on {SEEDS_AT} corrections.")
@click.option("--quick", is_flag=True, help="A smoke run.")
def main(data: Path, out: Path, encoder: str, weights: str, seeds: int, quick: bool) -> None:
    corrections: Sequence[int] = (4, 8) if quick else CORRECTIONS
    scored, epochs, seeds = (12, 1, 1) if quick else (SCORED, EPOCHS, seeds)
    try:
        rows = datasets.read("flickr8k", data, limit=300 if quick else None)
        study = Study(out, base_recipe(encoder, weights, epochs), corrections, seeds)
        for scenario in scenarios(rows, corrections[-1], scored):
            study.run(scenario)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    report("adaptation", figures(study.results), MEANINGS)


def base_recipe(encoder: str, weights: str, epochs: int) -> TrainingConfig:
    """One view and one decoder: the parts that cost the most say nothing on learning from corrections."""
    recipe = TrainingConfig.photos(encoder, weights, epochs=epochs)
    return replace(
        recipe,
        encoder=replace(recipe.encoder, views=((1.0, False),)),
        decoder=replace(recipe.decoder, ensemble=1),
        decoding=recipe.decoding.quick(),
        augmented=False,
    )


@dataclass(frozen=True)
class Result:
    """The mean scores of the captioners that some corrections made, by one recipe: on the scenario's images, and
    `base_cider_d` on what the base knows. `recipe` is "base" for the base itself, which has learned no correction."""

    scenario: str
    recipe: str
    corrections: int
    seconds: float
    cider_d: float
    bleu4: float
    edits: float
    length: float
    share: float  # of drafts that have the subject's words, or the house style
    base_cider_d: float


class Study:
    """Retrains bases on corrections; everything is kept in `out`, and what is there is not measured again."""

    def __init__(self, out: Path, recipe: TrainingConfig, corrections: Sequence[int], seeds: int) -> None:
        self._out, self._cache, self._kept = out, out / "features", out / "results.json"
        self._recipe, self._corrections, self._seeds = recipe, corrections, seeds
        found = json.loads(self._kept.read_text(encoding="utf-8")) if self._kept.exists() else []
        self.results = [Result(**each) for each in found]

    def run(self, scenario: Scenario) -> None:
        """Score the base, what it becomes by today's retrain and by that of before, and a captioner trained anew.

        Water only checks that nothing was tuned to winter: at two numbers of corrections, and with nothing beside.
        """
        is_check = scenario.name == "water"
        folder = trained(scenario.base.rows, self._out / f"base-{scenario.base.name}", self._recipe, self._cache)
        base = checkpoint.load(folder)
        corrections = scenario.corrections(self._captions(base, scenario.corrected))
        self._score(scenario, "base", 0, [(base, 0.0)])
        for number in self._corrections:
            several = number == SEEDS_AT and scenario.name in {"winter", "style"}
            seeds = range(1, 1 + (self._seeds if several else 1))
            if is_check and number not in {SEEDS_AT, self._corrections[-1]}:
                continue
            retrained = partial(self._retrained, scenario, base, corrections, number)
            self._score(scenario, "today", number, map(retrained, seeds))
            if not is_check:
                self._score(scenario, "before", number, map(partial(retrained, before=True), [1]))
        if scenario.name == "winter":
            self._score(scenario, "anew", len(corrections), map(self._anew, [[*scenario.base.rows, *corrections]]))

    def _retrained(
        self, scenario: Scenario, base: Captioner, corrections: list[Row], number: int, seed: int, before: bool = False
    ) -> tuple[Captioner, float]:
        """The base retrained on so many corrections, other ones for each seed, and the seconds it took."""
        chosen = corrections[:number] if seed == 1 else random.Random(seed).sample(corrections, number)
        data = retraining_data(chosen, scenario.base.rows, FEWEST_ROWS * (not before))
        out = self._out / "retrained"
        shutil.rmtree(out, ignore_errors=True)
        begun = time.monotonic()
        if before:
            captioner = retrain_before(base, data, out, cache_dir=self._cache)
        else:
            captioner = retrain(base, data, out, seed=str(seed), cache_dir=self._cache)
        return captioner, time.monotonic() - begun

    def _anew(self, rows: Sequence[Row]) -> tuple[Captioner, float]:
        folder = trained(rows, self._out / "anew-winter", self._recipe, self._cache)
        return checkpoint.load(folder), seconds(folder)

    def _captions(self, captioner: Captioner, rows: Sequence[Row]) -> list[str]:
        decoding = captioner.decoding.quick()  # `benchmarks.retrieval` measures the retrieval memory
        return [found.text for found in hypotheses(captioner, rows, decoding, self._cache)]

    def _score(self, scenario: Scenario, recipe: str, number: int, made: Iterable[tuple[Captioner, float]]) -> None:
        """Add the mean scores of captioners and their seconds, unless they are there already: then none is `made`."""
        if any(
            (each.scenario, each.recipe, each.corrections) == (scenario.name, recipe, number) for each in self.results
        ):
            return
        scores = [
            {
                "seconds": duration,
                **drafts_scores(scenario, self._captions(captioner, scenario.scored)),
                "base_cider_d": metrics.cider_d(
                    self._captions(captioner, scenario.base.scored), [row.references for row in scenario.base.scored]
                ).value,
            }
            for captioner, duration in made
        ]
        means = {name: sum(each[name] for each in scores) / len(scores) for name in scores[0]}
        self.results.append(Result(scenario.name, recipe, number, **means))
        print(json.dumps(vars(self.results[-1])), flush=True)
        self._kept.write_text(json.dumps([vars(each) for each in self.results], indent=1), encoding="utf-8")


def retraining_data(
    corrections: Sequence[Row], base: Sequence[Row], fewest: int = FEWEST_ROWS, learnt: Collection[str] = ()
) -> RetrainingData:
    """The corrections as the backend splits them: some are held out; some choose, where they are the `fewest`.

    Those of images that are `learnt` already, by their hashes, are known and not new.
    """
    split = [replace(row, split=split_of(row.sha256, Settings().blind_share)) for row in corrections]
    learned = [row for row in split if row.split == manifest.TRAIN]
    choosing = [row for row in split if row.split == manifest.DEV]
    if len(choosing) < fewest:
        learned, choosing = [*learned, *choosing], []
    train, dev = ([row for row in base if row.split == split] for split in (manifest.TRAIN, manifest.DEV))
    new, known = ([row for row in learned if (row.sha256 in learnt) == is_known] for is_known in (False, True))
    return RetrainingData(new, known, train, choosing, dev)


def drafts_scores(scenario: Scenario, drafts: Sequence[str]) -> dict[str, float]:
    references = scenario.references
    wanted = [
        mentions([draft], scenario.subject) if scenario.subject else annotator.follows_house_style(draft)
        for draft in drafts
    ]
    return {
        "cider_d": metrics.cider_d(drafts, references).value,
        "bleu4": metrics.bleu(drafts, references).value,
        "edits": annotator.edits(drafts, references),
        "length": metrics.mean_length(drafts),
        "share": sum(wanted) / len(wanted),
    }


def figures(results: Sequence[Result]) -> dict[str, float]:
    """All results by name, and the figures that have targets."""
    by_name = {(each.scenario, each.recipe, each.corrections): each for each in results}
    base = {name: by_name[name, "base", 0] for name in {each.scenario for each in results}}
    table: dict[str, float] = {}
    for each in results:
        before = "before_" if each.recipe == "before" else ""
        number = each.corrections if before or each.recipe == "today" else each.recipe
        name = f"{before}{'subject' if each.scenario == 'winter' else each.scenario}_{number}_"
        was = base[each.scenario]
        table |= {
            f"{name}cider_d_change": each.cider_d - was.cider_d,
            f"{name}edits_change": each.edits / was.edits - 1,
            f"{name}base_change": each.base_cider_d - was.base_cider_d,
            f"{name}{'follow' if each.scenario == 'style' else 'word'}_share": each.share,
            f"{name}seconds": each.seconds,
        }
        if each.recipe == "anew":
            last = by_name[each.scenario, "today", each.corrections]
            table[f"{name.removesuffix('anew_')}{each.corrections}_over_anew"] = last.cider_d / max(each.cider_d, 1e-9)
    same = [each.cider_d for each in results if (each.scenario, each.recipe) == ("same", "today")]
    table["same_worst_cider_d_change"] = min(same) - base["same"].cider_d
    return table


if __name__ == "__main__":
    main()
