"""Corrections of photos in the snow, which the captioner has no word for, change the drafts of those that wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from PIL import Image

import labeling_config
from backend.label_studio import wire
from backend.store.registry import ModelVersion, Registry
from tests.conftest import Once
from tests.e2e.bare import SECONDS, Bare
from tests.e2e.stack import await_true
from tests.e2e.studio import Studio
from tests.pictures import Pictures
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TrainingConfig
from training.learning.train import train

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("label-studio")]

TAGS = labeling_config.parse(labeling_config.shipped("caption"))
BASE = "without-snow-v1"
CORRECTED, WAITING = 50, 10


@pytest.fixture(scope="module")
def captioner(once: Once, pictures: Pictures) -> Path:
    """The default encoder, frozen, and a small decoder that knows scenes without snow."""

    def make(folder: Path) -> None:
        config = replace(
            TrainingConfig.photos(epochs=20, batch_size=8),
            encoder=EncoderConfig("tf_efficientnet_lite2", "imagenet", "none"),
            decoder=DecoderConfig(embedding=64, hidden=128),
            decoding=DecodingConfig(beam=3, max_length=16),
            augmented=False,
        )
        rows = pictures.rows[: pictures.known]
        train(rows, folder / BASE, config, cache_dir=folder / "features", device="cpu")

    return once("without-snow", make) / BASE


@pytest.fixture(scope="module")
def snowy(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures) -> list[tuple[Path, str]]:
    """Scenes that the captioner has not seen, in the snow: image and caption."""
    folder, chance = tmp_path_factory.mktemp("snow"), numpy.random.default_rng(3)
    made = []
    for row in pictures.rows[pictures.known :][: CORRECTED + WAITING]:
        with Image.open(row.image) as image:
            pixels = numpy.array(image.convert("RGB").resize((256, 256)))
        pixels[190:] = 250  # what lies
        for y, x in chance.integers(0, 250, (150, 2)):  # what falls
            pixels[y : y + 5, x : x + 5] = 255
        path = folder / row.image.with_suffix(".png").name
        Image.fromarray(pixels).save(path)
        made.append((path, row.references[0].rstrip(".") + " in the snow."))
    return made


@pytest.fixture
def loop(tmp_path: Path, label_studio: Studio, captioner: Path) -> Iterator[Bare]:
    """What changes drafts is a promoted version alone: near duplicates are not drafted with a correction."""
    given = {"CAPTIONER_DEVICE": "cpu", "CAPTIONER_BLIND_SHARE": "0", "CAPTIONER_REUSE": "off"}
    made = Bare(tmp_path, label_studio, CAPTIONER_RETRAIN_EVERY=str(CORRECTED), **given)
    Registry(made.store).register(ModelVersion(BASE, captioner))
    with made:
        yield made


def test_fifty_corrections_change_the_drafts_of_photos_that_wait(
    loop: Bare, snowy: list[tuple[Path, str]], pictures: Pictures
) -> None:
    plain = [row.image for row in pictures.rows[:4]]
    project, tasks = loop.open_project("Snow", [path for path, _ in snowy] + plain, BASE)
    corrected, waiting, others = tasks[:CORRECTED], tasks[CORRECTED:][:WAITING], tasks[-len(plain) :]
    loop.client.retrieve_predictions(project, [*waiting, *others])
    assert not [text for text in loop.drafts(project, BASE).values() if "snow" in text]

    for task_id, (_, caption) in zip(corrected, snowy, strict=False):
        result = [wire.result(TAGS, caption, origin="prediction-changed")]
        loop.client.create_annotation(task_id, project, result)

    def champion() -> str:
        return str(loop.project_status(project)["champion"])

    def in_the_snow() -> dict[int, str]:
        return {id_: text for id_, text in loop.drafts(project, champion()).items() if "snow" in text}

    await_true(lambda: len(loop.store.corrections(project)) == CORRECTED, SECONDS, "the corrections")
    await_true(lambda: [each for each in loop.store.retrains(project) if not each.active], SECONDS, "a retrain")
    if champion() == BASE:  # with half of the corrections it may be held; then a person asks for another
        loop.client.start_training(loop.client.ml_backends(project)[0]["id"])
    await_true(lambda: champion() != BASE, SECONDS, "a promotion")
    await_true(lambda: len(in_the_snow().keys() & set(waiting)) >= WAITING / 2, SECONDS, "drafts with snow")
    version, found = champion(), in_the_snow()
    [opened] = [
        each for each in loop.client.open_task(min(found), project)["predictions"] if each["model_version"] == version
    ]
    assert opened["result"][0]["value"]["text"] == [found[min(found)]]
    assert len(found.keys() & set(others)) <= len(others) / 2, "where there is none"
