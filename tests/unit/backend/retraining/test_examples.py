from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from backend.retraining import examples
from backend.retraining.examples import FOLDER, LIST, MOST
from tests.factories import picture
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.data.manifest import HELD_OUT, Row
from training.vocabulary import Style, Vocabulary


def captioner(**decoder: Any) -> Captioner:
    torch.manual_seed(0)
    return Captioner(
        EncoderConfig("small_cnn", "none", "none"),
        DecoderConfig(embedding=16, hidden=32, **decoder),
        TransformConfig(side=32),
        DecodingConfig(beam=2, max_length=4),
        Vocabulary.build(["a red picture", "a blue picture of nothing"]),
        Style(True, True),
    ).eval()


def rows(folder: Path, number: int) -> list[Row]:
    found = []
    for n in range(number):
        image = folder / f"photo-{n}.png"
        image.write_bytes(picture((n, 90, 200), size=(64, 48)))
        found.append(Row(image, f"{n:064x}", (f"picture {n}", "a picture"), HELD_OUT))
    return found


def test_a_version_has_drafts_of_held_out_images_with_what_each_word_attended_to(tmp_path: Path) -> None:
    held_out = rows(tmp_path, 9)
    examples.make(captioner(), held_out, tmp_path)
    found = examples.load(tmp_path)
    assert (len(found.examples), found.without) == (MOST, "")
    for number, each in enumerate(found.examples):
        assert each.draft
        assert each.captions == (f"picture {each.image.removeprefix('photo-').removesuffix('.png')}", "a picture")
        file = examples.picture(tmp_path, number)
        assert file
        with Image.open(file) as maps:
            assert (maps.format, maps.width > 500) == ("JPEG", True)
    assert examples.picture(tmp_path, MOST) is examples.picture(tmp_path, -1) is None
    later = tmp_path / "later"
    later.mkdir()
    examples.make(captioner(architecture="initial_state"), held_out[::-1], later)
    assert [each.image for each in examples.load(later).examples] == [each.image for each in found.examples]


def test_without_attention_there_are_drafts_and_the_reason(tmp_path: Path) -> None:
    examples.make(captioner(architecture="initial_state"), rows(tmp_path, 2), tmp_path)
    found = examples.load(tmp_path)
    assert found.without == "There are no attention maps: initial_state is a decoder without attention."
    assert {each.picture for each in found.examples} == {""}
    assert len(found.examples) == 2
    assert examples.picture(tmp_path, 0) is None


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    first, second = rows(tmp_path, 2)
    first.image.write_text("no image")
    examples.make(captioner(), [first, second], tmp_path)
    assert [each.image for each in examples.load(tmp_path).examples] == ["photo-1.png"]
    second.image.unlink()
    examples.make(captioner(), [first, second], tmp_path)
    assert examples.load(tmp_path).without.endswith("none of the held-out images could be read.")
    examples.make(captioner(), [], tmp_path)
    assert examples.load(tmp_path).without.endswith("no image was held out yet.")


def test_what_fails_costs_no_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    examples.make(captioner(), rows(tmp_path, 1), tmp_path / "nowhere")
    assert "The examples of " in caplog.text
    assert examples.load(tmp_path / "nowhere").without.endswith("the checkpoint is not on this machine.")


@pytest.mark.parametrize("damaged", ["{", "[]", '{"examples": [{"image": "x"}], "without": ""}', "\xff"])
def test_a_damaged_list_is_a_sentence(tmp_path: Path, damaged: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / LIST).write_text(damaged, encoding="latin-1")
    assert examples.load(tmp_path).without.startswith("The attention maps cannot be read")
    assert examples.picture(tmp_path, 0) is None


def test_no_file_outside_the_folder_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / "config.json").write_text("{}")
    one = '{"image": "x", "draft": "y", "captions": [], "picture": "../config.json"}'
    (tmp_path / FOLDER / LIST).write_text(f'{{"examples": [{one}], "without": ""}}')
    assert examples.picture(tmp_path, 0) is None
