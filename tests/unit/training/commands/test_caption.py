import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.training.commands.conftest import Run
from training.captioner import bundled, checkpoint
from training.captioner.captioner import Captioner
from training.data.manifest import Row
from training.decoding.retrieval import RetrievalMemory


def test_a_line_a_caption_with_its_score(succeed: Run, saved: Path, coloured_rows: list[Row]) -> None:
    images = [row.image for row in coloured_rows[:3]]
    lines = succeed("caption", saved, *images).output.splitlines()
    assert [line.split("\t")[0] for line in lines] == [str(image) for image in images]
    for line in lines:
        _, score, text = line.split("\t")
        assert 0 < float(score) <= 1
        assert text.endswith(".")


def test_without_a_checkpoint_the_starter_captions(
    succeed: Run, fail: Run, starter: Path, coloured_rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [row.image for row in coloured_rows[:2]]
    captions = succeed("caption", *images).output
    assert [line.split("\t")[0] for line in captions.splitlines()] == [str(image) for image in images]
    assert succeed("caption", "starter", *images).output == captions
    assert "1 of 1 image could not be captioned" in fail("caption", "absent.png", "--device", "cpu")
    monkeypatch.setattr(bundled, "STARTER", starter / "absent")
    assert "comes with this project, is missing in" in fail("caption", *images)


def test_several_captions_of_an_image_best_first(succeed: Run, saved: Path, coloured_rows: list[Row]) -> None:
    [image, other] = [row.image for row in coloured_rows[:2]]
    lines = [line.split("\t") for line in succeed("caption", saved, image, other, "--n-best", 3).output.splitlines()]
    assert [line[0] for line in lines] == [str(image)] * 3 + [str(other)] * 3
    assert len({line[3] for line in lines[:3]}) == 3
    ranks = [float(line[2]) for line in lines]
    assert ranks[:3] == sorted(ranks[:3], reverse=True)
    assert ranks[3:] == sorted(ranks[3:], reverse=True)
    [best] = succeed("caption", saved, image).output.splitlines()
    assert best.split("\t") == [*lines[0][:2], lines[0][3]]


@pytest.mark.parametrize("options", [("--length-penalty", 2), ("--top-p", 1), ("--neighbours", 2)], ids=str)
def test_captions_show_the_number_that_they_are_ordered_by(
    options: tuple[object, ...],
    succeed: Run,
    tiny: Captioner,
    coloured_rows: list[Row],
    tmp_path: Path,
) -> None:
    tiny.retrieval = RetrievalMemory.build(coloured_rows, torch.randn(16, tiny.encoder.channels), tiny.vocabulary, 9)
    checkpoint.save(tmp_path / "it", tiny)
    given = ("--n-best", 8, *options, "--json", tmp_path / "captions.json")
    succeed("caption", tmp_path / "it", coloured_rows[0].image, *given)
    [entry] = json.loads((tmp_path / "captions.json").read_text())["images"]
    ranks = [each["ranking_score"] for each in entry["captions"]]
    assert len(ranks) > 2
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) > 1


def test_sampled_captions_follow_their_seed(succeed: Run, saved: Path, coloured_rows: list[Row]) -> None:
    image = coloured_rows[0].image
    printed = [
        succeed("caption", saved, image, "--n-best", 5, "--top-p", 1, "--temperature", 2, "--seed", seed).output
        for seed in (1, 1, 2)
    ]
    assert printed[0] == printed[1] != printed[2]


def test_captions_are_written_as_json(succeed: Run, saved: Path, coloured_rows: list[Row], tmp_path: Path) -> None:
    image, written = coloured_rows[0].image, tmp_path / "captions.json"
    printed = succeed("caption", saved, image, "--n-best", 2, "--beam", 4, "--json", written).output
    result = json.loads(written.read_text())
    assert (result["checkpoint"], result["decoding"].split("|")[0]) == ("saved", "beam:4")
    [entry] = result["images"]
    assert entry["image"] == str(image)
    assert [
        f"{image}\t{one['score']:.2f}\t{one['ranking_score']:.3f}\t{one['caption']}" for one in entry["captions"]
    ] == printed.splitlines()


def test_images_are_encoded_in_parts_where_memory_runs_out(
    succeed: Run, saved: Path, coloured_rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [row.image for row in coloured_rows[:3]]
    whole = succeed("caption", saved, *images).output
    encode = Captioner.encode

    def scarce(captioner: Captioner, pixels: np.ndarray) -> torch.Tensor:
        if len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encode(captioner, pixels)

    monkeypatch.setattr(Captioner, "encode", scarce)
    assert succeed("caption", saved, *images).output == whole


def test_failures_are_reported_and_the_others_are_captioned(
    run: Run, saved: Path, tmp_path: Path, coloured_rows: list[Row]
) -> None:
    image, written = coloured_rows[0].image, tmp_path / "captions.json"
    options = ("--json", written, "--explain", tmp_path / "maps", "--device", "cpu")
    result = run("caption", saved, tmp_path / "absent.png", image, *options)
    assert result.exit_code == 1
    assert f"{image}\t" in result.output
    assert "absent.png cannot be read" in result.output
    assert "Error: 1 of 2 images could not be captioned." in result.output
    bad, good = json.loads(written.read_text())["images"]
    assert "cannot be read" in bad["error"]
    assert good["captions"]
    assert Path(good["explanation"]).exists()


def test_attention_maps_are_drawn_for_the_best_caption(
    succeed: Run, saved: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    wide, folder = picture("red", "wide.png", (300, 60)), tmp_path / "other"
    folder.mkdir()
    same = folder / "wide.jpg"
    Image.new("RGB", (60, 300), "blue").save(same)
    succeed("caption", saved, wide, same, "--n-best", 2, "--explain", tmp_path / "maps")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["wide-2.png", "wide.png"]
    with Image.open(tmp_path / "maps" / "wide.png") as drawn:
        assert drawn.mode == "RGB"
        reddest = max(drawn.resize((200, 200), Image.Resampling.NEAREST).get_flattened_data())
    assert reddest[0] > 200


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("SAVED",), "Missing argument 'IMAGES...'"),
        (("absent", "x.png"), "no checkpoint folder absent"),
        (("SAVED", "x.png", "--n-best", "0"), "0 is not in the range"),
        (("SAVED", "x.png", "--max-length", "0"), "max_length is 0"),
        (("SAVED", "x.png", "--top-p", "0.5", "--length-penalty", "1"), "leave out --length-penalty"),
        (("SAVED", "RED", "--device", "tpu"), "no device called 'tpu'"),
        (("SAVED", "x.png", "--explain", "x.png/maps", "--device", "cpu"), "could not be captioned"),
        (("BLIND", "RED", "--explain", "maps", "--device", "cpu"), "the decoder initial_state"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: tuple[str, ...],
    says: str,
    fail: Run,
    saved: Path,
    blind: Path,
    picture: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    stand_ins = {"SAVED": saved, "BLIND": blind, "RED": picture("red")}
    assert says in fail("caption", *(stand_ins.get(argument, argument) for argument in arguments))
    assert not (tmp_path / "maps").exists()


def test_no_picture_is_drawn_below_a_file(fail: Run, saved: Path, picture: Callable[..., Path]) -> None:
    image = picture("red")
    assert "is no folder" in fail("caption", saved, image, "--explain", image / "maps")
