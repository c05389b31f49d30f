"""The Python API: `training.load`, and that the examples of docs/python.md run."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from training import Caption, CheckpointError, ConfigError, DataError, ImageCaptioner, load
from training.captioner import bundled, checkpoint
from training.captioner.captioner import Captioner
from training.decoding.beam_search import Hypothesis

ROOT = Path(__file__).parents[4]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
Picture = Callable[..., Path]


@pytest.fixture
def captioner(tiny: Captioner, tmp_path: Path) -> ImageCaptioner:
    return load(checkpoint.save(tmp_path / "checkpoint", tiny), device="cpu")


def test_paths_bytes_and_pillow_images_get_the_same_caption(
    captioner: ImageCaptioner, tiny: Captioner, picture: Picture
) -> None:
    path = picture("red")
    with Image.open(path) as opened:
        found = captioner.caption([path, str(path), path.read_bytes(), opened, opened.convert("RGB")])
    assert len(set(found)) == 1
    [expected] = tiny.caption([path])
    assert isinstance(expected, Hypothesis)
    assert (found[0].text, found[0].confidence) == (expected.text, expected.score)
    assert found[0].log_probability == pytest.approx(math.log(expected.score))
    assert captioner.device == "cpu"


def test_alternatives_are_other_captions_from_the_best_on(captioner: ImageCaptioner, picture: Picture) -> None:
    [caption] = captioner.caption([picture("red")], alternatives=2)
    assert captioner.caption([picture("red")]) == [Caption(caption.text, caption.confidence)]
    texts = [caption.text, *(each.text for each in caption.alternatives)]
    assert len(set(texts)) == 3
    assert all(0 < each.confidence <= 1 and not each.alternatives for each in caption.alternatives)


def test_an_image_that_pillow_has_opened_stays_as_it_was(
    captioner: ImageCaptioner, tiny: Captioner, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    halves = Image.new("RGB", (200, 100), "white")
    halves.paste("black", (0, 0, 100, 100))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    halves.save(path, exif=exif)
    with Image.open(path) as opened:
        captions = captioner.caption([opened] * 8)  # several threads read it
        assert opened.size == (200, 100)
        assert opened.getpixel((150, 50)) == (255, 255, 255)
    [upright] = captioner.caption([path])
    assert isinstance(upright, Caption)
    near = pytest.approx(upright.confidence, rel=1e-5)  # processors round a batch of eight as they like
    assert [(each.text, each.confidence) for each in captions] == [(upright.text, near)] * 8, "turned upright as well"


def test_an_error_stands_in_the_place_of_its_image(captioner: ImageCaptioner, picture: Picture, tmp_path: Path) -> None:
    given = [picture("red"), tmp_path / "absent.jpg", b"no image", picture("blue")]
    red, absent, broken, blue = captioner.stream(given)
    assert isinstance(red, Caption)
    assert isinstance(blue, Caption)
    assert "absent.jpg cannot be read" in str(absent)
    assert str(broken).startswith("The image of 8 bytes cannot be read: ")
    with pytest.raises(DataError, match=r"^Image 2 cannot be captioned: The image .*absent\.jpg cannot be read: .*\.$"):
        captioner.caption(given)
    assert captioner.caption([]) == []


def test_images_are_taken_as_captions_are_asked_for(captioner: ImageCaptioner, picture: Picture) -> None:
    path, taken = picture("red"), 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield path

    captions = captioner.stream(endless())
    assert isinstance(next(captions), Caption)
    assert taken < 1000


def test_what_is_no_list_of_images_is_said(captioner: ImageCaptioner, picture: Picture) -> None:
    path = picture("red")
    with Image.open(path) as opened:
        for single in (path, str(path), path.read_bytes(), opened):
            with pytest.raises(DataError, match="Several images are needed: give a list"):
                captioner.caption(single)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="This is no image but of type int: a path, bytes or a Pillow image is needed"):
        captioner.caption([7])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="There can be 0 to 63 alternatives, and not 64"):
        captioner.stream([path], alternatives=64)


def test_what_cannot_be_loaded_is_said(tiny: Captioner, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint folder"):
        load(tmp_path / "nowhere")
    folder = checkpoint.save(tmp_path / "checkpoint", tiny)
    with pytest.raises(ConfigError, match="There is no device called 'abacus'"):
        load(str(folder), device="abacus")


def test_importing_it_takes_no_torch_and_nothing_of_the_backend() -> None:
    code = """
import sys
for name in ("backend", "labeling_config", "sqlalchemy", "redis", "rq", "flask", "torch", "numpy"):
    sys.modules[name] = None
import training
try:
    training.load("nowhere")
except training.TrainingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("There is no checkpoint folder nowhere.\n", "")


def test_without_a_name_the_starter_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Captioner) -> None:
    monkeypatch.setattr(bundled, "STARTER", checkpoint.save(tmp_path / "starter", tiny))
    assert load(device="cpu").checkpoint == tmp_path / "starter"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n\n")[-1][:40])
def test_the_examples_of_the_page_run(
    example: str, tiny: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Picture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundled, "STARTER", checkpoint.save(tmp_path / "checkpoint", tiny))
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "other.jpg", "photos/1.jpg"):
        picture("blue", name)
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    exec(compile(example, "docs/python.md", "exec"), {})
