import json
from pathlib import Path
from typing import Any

import click
import pytest
from torch import distributed

from tests.unit.training.commands.conftest import Run
from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.commands import train as module
from training.commands.progress import only_first_process_prints
from training.config import TrainingConfig
from training.data import manifest
from training.data.manifest import Row
from training.learning.elastic import launch

SMALL = ("--set", "decoder.embedding=16", "--set", "decoder.hidden=32", "--set", "transform.side=32")


def configuration_of(folder: Path) -> dict[str, Any]:
    """The configuration that a checkpoint says it was trained with."""
    config: dict[str, Any] = checkpoint.read_info(folder)["extra"]["training"]
    return config


def test_every_option_reaches_the_training(succeed: Run, listed: Path, tmp_path: Path) -> None:
    out, board = tmp_path / "out", tmp_path / "board"
    options: dict[str, Any] = {
        "--encoder": "small_cnn",
        "--encoder-weights": "none",
        "--encoder-trained": "all",
        "--frozen-epochs": 1,
        "--architecture": "show_attend_tell",
        "--cell": "gru",
        "--epochs": 2,
        "--batch-size": 6,
        "--learning-rate": 0.01,
        "--self-critical-epochs": 1,
        "--seed": 5,
        "--tensorboard": board,
        "--limit": 12,
    }
    given = [word for option in options.items() for word in option]
    printed = succeed("train", "--manifest", listed, "--out", out, *given, *SMALL).output
    assert f"The checkpoint is in {out}: 12 images" in printed
    config = configuration_of(out)
    assert (config["encoder"]["name"], config["encoder"]["trained"]) == ("small_cnn", "all")
    assert [config["decoder"][name] for name in ("architecture", "cell", "hidden")] == [
        "show_attend_tell",
        "gru",
        32,
    ]
    assert [config[name] for name in ("frozen_epochs", "epochs", "batch_size", "learning_rate", "seed")] == [
        1,
        2,
        6,
        0.01,
        5,
    ]
    assert config["self_critical_epochs"] == 1
    stages = [entry["stage"] for entry in checkpoint.read_info(out)["extra"]["history"]]
    assert stages == ["frozen", "train", "train", "reward"]
    assert list(board.iterdir())


def test_single_values_go_before_options_before_the_file_before_the_preset(
    succeed: Run, listed: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.json"
    values = {"encoder": {"name": "small_cnn"}, "seed": 7, "epochs": 3, "batch_size": 9}
    recipe.write_text(json.dumps(values))
    options = ("--epochs", 2, "--batch-size", 8, "--set", "batch_size=4", "--set", "epochs=5", "--set", "epochs=1")
    succeed("train", "--manifest", listed, "--config", recipe, *options, *SMALL, "--out", tmp_path / "out")
    config = configuration_of(tmp_path / "out")
    assert [config[name] for name in ("seed", "epochs", "batch_size", "captions_per_image")] == [7, 1, 4, 5]


def test_a_checkpoint_is_learned_on_from(succeed: Run, saved: Path, listed: Path, tmp_path: Path) -> None:
    succeed("train", "--manifest", listed, "--start-from", saved, "--epochs", 1, "--out", tmp_path / "next")
    assert checkpoint.read_info(tmp_path / "next")["decoder"] == checkpoint.read_info(saved)["decoder"]
    succeed("train", "--manifest", listed, "--start-from", saved, "--epochs", 1, "--out", tmp_path / "next")


def test_a_checkpoint_learns_from_rewards_alone(succeed: Run, saved: Path, listed: Path, tmp_path: Path) -> None:
    alone = ("--epochs", 0, "--self-critical-epochs", 1)
    succeed("train", "--manifest", listed, "--start-from", saved, *alone, "--out", tmp_path / "next")
    extra = checkpoint.read_info(tmp_path / "next")["extra"]
    assert [entry["stage"] for entry in extra["history"]] == ["reward"]
    assert extra["training"]["agreed_captions"] == TrainingConfig.rewarded().agreed_captions  # not a retraining's


def test_a_table_of_captions_may_be_named(succeed: Run, coloured_rows: list[Row], tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    lines = [f"{row.image.name},{text},train" for row in coloured_rows for text in row.references]
    table.write_text("\n".join(["image,caption,split", *lines]))
    common = ("--encoder", "small_cnn", "--epochs", 1, *SMALL)
    printed = succeed("train", "--dataset", "csv", "--data-dir", table, *common, "--out", tmp_path / "out").output
    assert "16 images" in printed


def test_scenes_are_drawn_and_learned(run: Run, tmp_path: Path) -> None:
    common = ("--epochs", 1, *SMALL, "--device", "cpu")
    result = run("train", "--scenes", "--limit", 30, "--out", tmp_path / "starter", *common)
    assert result.exit_code == 0, result.output
    scenes = tmp_path / "starter-scenes"
    assert f"Drawing 30 scenes into {scenes}." in result.output
    assert len(manifest.load(scenes / "manifest.jsonl")) == 30
    assert (scenes / "cache").is_dir()
    assert checkpoint.read_info(tmp_path / "starter")["encoder"]["name"] == "small_cnn"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Give --dataset with --data-dir, or --manifest."),
        (("--dataset", "flickr8k"), "Give --dataset with --data-dir, or --manifest."),
        (("--dataset", "mine", "--data-dir", "."), "'mine' is not one of 'flickr8k', 'flickr30k'"),
        (("--dataset", "csv", "--data-dir", "absent"), "which is not there"),
        (("--manifest", "absent.jsonl"), "absent.jsonl"),
        (("--manifest", "LISTED", "--encoder", "vgg"), "encoder.name is 'vgg', which is no CNN of torchvision or timm"),
        (("--manifest", "LISTED", "--architecture", "sideways"), "'sideways' is not one of"),
        (("--manifest", "LISTED", "--cell", "rnn"), "'rnn' is not one of 'lstm', 'gru'"),
        (("--manifest", "LISTED", "--encoder-trained", "some"), "'some' is not one of 'none', 'all'"),
        (("--manifest", "LISTED", "--encoder-weights", "absent.pth"), "There is no file absent.pth"),
        (("--manifest", "LISTED", "--encoder", "small_cnn", "--encoder-weights", "imagenet"), "small_cnn has none of"),
        (("--manifest", "LISTED", "--frozen-epochs", "-1"), "frozen_epochs is -1"),
        (("--manifest", "LISTED", "--batch-size", "0"), "batch_size is 0"),
        (("--manifest", "LISTED", "--learning-rate", "0"), "learning_rate is 0.0"),
        (("--manifest", "LISTED", "--self-critical-epochs", "-1"), "self_critical_epochs is -1"),
        (("--manifest", "LISTED", "--seed", "-1"), "seed is -1"),
        (("--manifest", "LISTED", "--config", "absent.json"), "absent.json cannot be read"),
        (("--manifest", "LISTED", "--set", "decoder.size=1"), "decoder has no value 'size'; it has embedding"),
        (("--manifest", "LISTED", "--set", "decoder.hidden=511"), "not a multiple of heads"),
        (("--manifest", "LISTED", "--start-from", "absent"), "no checkpoint folder absent"),
        (
            ("--manifest", "LISTED", "--start-from", "SAVED", "--architecture", "show_attend_tell"),
            "keeps the checkpoint's own decoder",
        ),
        (("--manifest", "LISTED", "--start-from", "SAVED", "--set", "encoder.feature_stages=2"), "own encoder"),
        (("--manifest", "LISTED", "--device", "tpu"), "no device called 'tpu'"),
        (("--manifest", "LISTED", "--tensorboard", "LISTED/board"), "cannot be written"),
        (("--scenes", "--epochs", "0"), "epochs is 0"),
        (("--scenes", "--manifest", "LISTED"), "--scenes draws its own images"),
        (("--scenes", "--limit", "0"), "--limit"),
    ],
)
def test_wrong_input_is_one_line(arguments: tuple[str, ...], says: str, refuse: Run, tmp_path: Path) -> None:
    assert says in refuse("train", *arguments, "--out", "out")
    assert not (tmp_path / "out").exists()


def test_a_training_starts_from_the_starter_by_its_name(
    succeed: Run, starter: Path, listed: Path, tmp_path: Path
) -> None:
    succeed("train", "--manifest", listed, "--start-from", "starter", "--epochs", 1, "--out", tmp_path / "mine")
    assert checkpoint.encoder_of(tmp_path / "mine") == checkpoint.encoder_of(starter)
    known = checkpoint.load(starter, "cpu").vocabulary.words
    assert checkpoint.load(tmp_path / "mine", "cpu").vocabulary.words[: len(known)] == known


def test_a_folder_in_use_is_not_replaced(
    fail: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, empty = tmp_path / "photos", tmp_path / "empty"
    photos.mkdir()
    empty.mkdir()
    (photos / "dear.jpg").write_bytes(b"a photo")
    monkeypatch.chdir(empty)
    for out in (photos, ".", "..", tmp_path):
        assert "holds other things" in fail("train", "--manifest", listed, "--out", out)
    assert (photos / "dear.jpg").exists()
    assert "is a file" in fail("train", "--manifest", listed, "--out", photos / "dear.jpg")
    assert "is no folder" in fail("train", "--manifest", listed, "--out", photos / "dear.jpg" / "out")


def test_scenes_that_cannot_be_drawn_are_one_line(fail: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be drawn into" in fail("train", "--scenes", "--data-dir", tmp_path / "file", "--out", tmp_path / "o")


def test_tensorboard_that_is_not_installed_is_one_line(
    fail: Run, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    line = fail("train", "--manifest", listed, "--tensorboard", tmp_path / "board", "--out", tmp_path / "out")
    assert line.endswith("pip install tensorboard.")


@pytest.mark.parametrize(("rank", "heard"), [(0, "printed"), (1, "")])
def test_under_torchrun_only_the_first_process_prints(
    rank: int, heard: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(distributed, "get_node_local_rank", lambda: rank)
    with only_first_process_prints():
        click.echo("printed", nl=False)
        click.echo("printed", nl=False, err=True)
    click.echo("after", nl=False)
    assert capfd.readouterr() == (f"{heard}after", heard)


def test_scenes_under_torchrun_are_refused(fail: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(distributed, "get_node_local_rank", lambda: 0)
    assert "start it without torchrun" in fail("train", "--scenes", "--out", tmp_path / "out")


def test_several_devices_train_together(
    run: Run, listed: Path, tiny: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out", []

    def follow(folder: Path, devices: list[str], progress: object) -> None:
        request = json.loads((folder / "request.json").read_text())
        seen.append((devices, len(manifest.load(folder / "manifest.jsonl")), request["device"]))
        checkpoint.save(Path(request["out"]), tiny, {"images": 16, "seconds": 1.0})

    monkeypatch.setattr(launch, "_follow", follow)
    result = run("train", "--manifest", listed, "--out", out, "--epochs", 1, *SMALL, "--device", "cpu,cpu")
    assert result.exit_code == 0, result.output
    assert f"The checkpoint is in {out}: 16 images" in result.output
    assert seen == [(["cpu", "cpu"], len(manifest.load(listed)), "cpu,cpu")]
