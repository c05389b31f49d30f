"""A near duplicate of a corrected photo opens with its correction, within two seconds and in every web process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import torch
from PIL import Image, ImageOps

import labeling_config
from backend.label_studio import wire
from backend.store.registry import ModelVersion, Registry
from tests.e2e.bare import Bare
from tests.e2e.stack import await_true
from tests.e2e.studio import Studio
from tests.pictures import Pictures
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.data import transforms
from training.networks import weights
from training.vocabulary import END, Style, Vocabulary

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("label-studio")]

CONFIG = labeling_config.shipped("caption")
TAGS = labeling_config.parse(CONFIG)
VERSION = "frozen-v1"
SCREENSHOT = Path(__file__).parents[2] / "docs" / "draft.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A photo, and what is nearly the same: cropped, mirrored, darker and compressed."""
    with Image.open(SCREENSHOT) as image:
        whole = image.convert("RGB")
    edges = (0.2 * whole.width, 0.26 * whole.height, 0.7 * whole.width, 0.94 * whole.height)
    photo = whole.crop(tuple(map(int, edges)))  # type: ignore[arg-type]
    width, height = photo.size
    cropped = photo.crop((width // 20, height // 20, width, height))
    versions = [photo, cropped, ImageOps.mirror(photo), photo.point(lambda value: int(value * 0.8))]
    folder, made = tmp_path_factory.mktemp("photos"), []
    for number, each in enumerate(versions):
        made.append(folder / f"{number}.jpg")
        each.save(made[-1], quality=30 if number == 3 else 90)
    return made


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory, pictures: Pictures, photos: list[Path]) -> Path:
    """A captioner on the default encoder whose decoder has learned nothing: it says some words of any image."""
    torch.manual_seed(1)
    vocabulary, transform = Vocabulary.build(["some words of no meaning"], 1), TransformConfig(224)
    decoder, decoding = DecoderConfig(embedding=8, hidden=8, heads=1), DecodingConfig(beam=1, max_length=3)
    encoder = EncoderConfig("tf_efficientnet_lite2", feature_stages=2)
    made = Captioner(encoder, decoder, transform, decoding, vocabulary, Style(True, True)).eval()
    weights.load(made.encoder)
    seen = [transforms.load(path, 224) for path in (*photos, *(row.image for row in pictures.rows[:12]))]
    with torch.inference_mode():
        grids = [made.encode(pixels[None].copy()) for pixels in seen]
    for part in made.decoder.decoders:
        part.standardisation.measure(grids)
        part.bias.data[END] = -20.0
    return checkpoint.save(tmp_path_factory.mktemp("captioner") / VERSION, made)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, label_studio: Studio, captioner: Path) -> Iterator[Bare]:
    """Two web processes; nothing is trained or compared meanwhile."""
    never = {"CAPTIONER_RETRAIN_EVERY": "0", "CAPTIONER_RECONCILE_SECONDS": "1000000"}
    given = {"CAPTIONER_DEVICE": "cpu", "CAPTIONER_BLIND_SHARE": "0", "CAPTIONER_WEB_WORKERS": "2"}
    made = Bare(tmp_path_factory.mktemp("reuse"), label_studio, **never, **given)
    Registry(made.store).register(ModelVersion(VERSION, captioner))
    with made:
        yield made


def test_a_near_duplicate_of_a_corrected_photo_opens_with_its_correction(
    loop: Bare, photos: list[Path], pictures: Pictures
) -> None:
    client = loop.client
    project, tasks = loop.open_project("Near duplicates", [*photos, pictures.rows[0].image], VERSION)
    corrected, *waiting, late, other = tasks
    client.retrieve_predictions(project, [corrected, *waiting, other])
    own = loop.drafts(project)
    assert set(own) == {corrected, *waiting, other}
    own_of_late = asked(loop, project, late)

    result = [wire.result(TAGS, "A woman in an orange suit.", origin="prediction-changed")]
    annotation = client.create_annotation(corrected, project, result)["id"]
    began = time.monotonic()
    for _ in range(6):  # so many that each process is asked
        assert asked(loop, project, late) == "A woman in an orange suit."
    copies = dict.fromkeys(waiting, "A woman in an orange suit.")
    answered = time.monotonic() - began
    await_true(lambda: loop.drafts(project) == own | copies, 10, "the drafts of waiting tasks")
    print(f"six drafts within {answered:.2f} s, those of waiting tasks within {time.monotonic() - began:.2f} s")

    [opened] = client.open_task(late, project)["predictions"]
    assert opened["result"][0]["value"]["text"] == ["A woman in an orange suit."]
    assert opened["result"][0]["meta"]["text"] == [f"from task {corrected}"]
    assert (opened["model_version"], opened["score"]) == (VERSION, 1.0)
    client.retrieve_predictions(project)
    assert sorted(each["task"] for each in client.predictions(project_id=project)) == sorted(tasks), "none is added"

    result = [wire.result(TAGS, "A woman smiles.", origin="prediction-changed")]
    client.update_annotation(annotation, project, result=result)
    copies = dict.fromkeys([*waiting, late], "A woman smiles.")
    await_true(lambda: loop.drafts(project) == own | copies, 10, "the changed correction")
    client.delete(f"/api/annotations/{annotation}")
    await_true(lambda: loop.drafts(project) == own | {late: own_of_late}, 10, "the correction to leave")


def asked(loop: Bare, project: int, task_id: int) -> str:
    """What the ML backend answers Label Studio for the task."""
    [task] = loop.client.full_tasks(project, [task_id], set())
    body = {"tasks": [task], "project": f"{project}.1", "label_config": CONFIG}
    [found] = requests.post(f"{loop.settings.backend_url}/predict", json=body, timeout=60).json()["results"]
    assert found["model_version"] == VERSION
    return str(found["result"][0]["value"]["text"][0])
