import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from training.captioner import checkpoint
from training.captioner.captioner import Captioner
from training.config import ARCHITECTURES, DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.errors import CheckpointError
from training.vocabulary import Style, Vocabulary


def test_round_trip(tiny: Captioner, picture: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path / "saved", tiny, {"images": 7})
    again = checkpoint.load(folder, "cpu")
    paths = [picture("red"), picture("blue"), picture("white")]
    assert again.caption(paths) == tiny.caption(paths)
    assert again.vocabulary == tiny.vocabulary
    assert again.style == tiny.style
    assert again.decoding == tiny.decoding
    assert checkpoint.read_info(folder)["extra"] == {"images": 7}
    assert checkpoint.encoder_of(folder) == tiny.encoder.config
    assert {path.name for path in folder.iterdir()} == {*checkpoint.FILES, checkpoint.SUMS}


def test_saving_replaces_and_leaves_nothing_beside(tiny: Captioner, tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path / "saved", tiny)
    (folder / "stale").touch()
    checkpoint.save(folder, tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert not (folder / "stale").exists()


def test_a_failed_save_keeps_the_old_one(tiny: Captioner, tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path / "saved", tiny, {"first": True})
    with pytest.raises(TypeError):
        checkpoint.save(folder, tiny, {"not json": object()})
    assert checkpoint.read_info(folder)["extra"] == {"first": True}
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_comes_back(architecture: str, picture: Callable[..., Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    captioner = Captioner(
        EncoderConfig("small_cnn", "none"),
        DecoderConfig(8, 16, 2, architecture, "gru"),
        TransformConfig(side=32),
        DecodingConfig(beam=2, max_length=5),
        Vocabulary.build(["a red picture"]),
        Style(),
    ).eval()
    again = checkpoint.load(checkpoint.save(tmp_path / "saved", captioner), "cpu")
    assert again.decoder.config == captioner.decoder.config
    assert again.caption([picture("red"), picture("blue")]) == captioner.caption([picture("red"), picture("blue")])


def test_in_half_precision_it_takes_half_the_bytes_and_is_float32_again(
    tiny: Captioner, picture: Callable[..., Path], tmp_path: Path
) -> None:
    tiny.decoding = DecodingConfig(beam=1, max_length=6)
    whole, half = checkpoint.save(tmp_path / "whole", tiny), checkpoint.save(tmp_path / "half", tiny, half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.55 * sizes[0]
    again, before = checkpoint.load(half, "cpu").state_dict(), tiny.state_dict()
    assert {value.dtype for value in again.values()} == {value.dtype for value in before.values()}
    assert all(torch.equal(again[name], value.half().to(value.dtype)) for name, value in before.items())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.json"])
def test_a_file_that_differs_from_its_checksum_is_damaged(tiny: Captioner, tmp_path: Path, name: str) -> None:
    folder = checkpoint.save(tmp_path / "saved", tiny)
    assert checkpoint.load(folder, "cpu").vocabulary == tiny.vocabulary
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if name.endswith("tensors") else content + b" ")
    with pytest.raises(CheckpointError, match=rf"is damaged: SHA256SUMS lists another {name}; put it back"):
        checkpoint.load(folder, "cpu")


def test_another_checkpoint_under_sums_of_its_own_is_not_the_known_one(tiny: Captioner, tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path / "saved", tiny)
    sums = (folder / "SHA256SUMS").read_text()
    assert sums == "".join(f"{sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in checkpoint.FILES)
    known = checkpoint.digest(folder)
    (folder / "SHA256SUMS").unlink()
    assert checkpoint.digest(folder) == known, "it is the same with or without sums"
    (folder / "SHA256SUMS").write_text("".join(reversed(sums.splitlines(keepends=True))))
    checkpoint.check_whole(folder, known)
    checkpoint.save(folder, tiny, {"another": True})
    assert checkpoint.load(folder, "cpu").vocabulary == tiny.vocabulary
    with pytest.raises(CheckpointError, match=r"is not the one that was registered: its files have changed since"):
        checkpoint.check_whole(folder, known)
    (folder / "SHA256SUMS").write_text(sums)
    with pytest.raises(CheckpointError, match=r"is damaged: SHA256SUMS lists another config"):
        checkpoint.check_whole(folder, known)
    (folder / "SHA256SUMS").write_text(sums.splitlines()[0])
    assert checkpoint.digest(folder) != known, "sums of some files say nothing of the others"
    assert checkpoint.digest(tmp_path / "nowhere") is None


def _absent(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_absent, "There is no checkpoint folder"),
        (lambda folder: (folder / "config.json").unlink(), "incomplete"),
        (lambda folder: (folder / "vocabulary.json").unlink(), "incomplete"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "no JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "format None"),
        (lambda folder: _edit(folder, format=99), "format 99"),
        (lambda folder: _edit(folder, encoder={"name": "vgg", "weights": "none"}), "damaged"),
        (lambda folder: _edit(folder, style={"shouting": True}), "damaged"),
        (lambda folder: _edit(folder, decoder={"embedding": 8, "hidden": 8, "heads": 2}), "cannot be loaded"),
        (lambda folder: (folder / "vocabulary.json").write_text('{"words": ["a"]}'), "damaged"),
    ],
)
def test_damage_is_named(tiny: Captioner, tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    folder = checkpoint.save(tmp_path / "saved", tiny)
    (folder / checkpoint.SUMS).unlink()
    damage(folder)
    with pytest.raises(CheckpointError, match=says):
        checkpoint.load(folder, "cpu")


def test_reading_the_info_needs_no_torch(tiny: Captioner, tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path / "saved", tiny)
    code = (
        "import sys, pathlib; from training.captioner import checkpoint; "
        "print(checkpoint.read_info(pathlib.Path(sys.argv[1]))['format'], 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["3", "False"]
