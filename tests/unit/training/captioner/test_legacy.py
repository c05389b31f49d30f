"""Checkpoints that earlier releases wrote."""

import json
import tarfile
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from training.captioner import checkpoint, legacy
from training.captioner.captioner import Captioner
from training.config import ARCHITECTURES, DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.decoding.beam_search import Hypothesis
from training.errors import CheckpointError
from training.vocabulary import Style, Vocabulary

ASSETS = Path(__file__).parents[3] / "assets" / "checkpoints"
EXPECTED = json.loads((ASSETS / "expected.json").read_text())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of checkpoints of format 2."""
    folder = tmp_path_factory.mktemp("format-2")
    with tarfile.open(ASSETS / "format-2.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", EXPECTED)
def test_its_captions_are_the_same(name: str, written: Path, tmp_path: Path) -> None:
    images = [ASSETS / image for image in EXPECTED[name]]
    captioner = checkpoint.load(written / name, "cpu")
    assert checkpoint.encoder_of(written / name) == captioner.encoder.config
    again = checkpoint.load(checkpoint.save(tmp_path / "saved", captioner), "cpu")
    assert checkpoint.read_info(tmp_path / "saved")["format"] == 3
    for one in (captioner, again):
        for found, (caption, score) in zip(one.caption(images), EXPECTED[name].values(), strict=True):
            assert isinstance(found, Hypothesis)
            assert found.text == caption
            assert found.score == pytest.approx(score, abs=0.02)  # bfloat16


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("checkpoint-top-down", "decoder.form 'top_down'"),
        ("checkpoint-encoder-last", "encoder.trained 'last'"),
        ("checkpoint-show-attend-tell", "decoder.tied False"),
        ("checkpoint-every-step", "encoder.pooled True"),
    ],
)
def test_what_left_is_refused_in_one_sentence(name: str, says: str, written: Path) -> None:
    for work in (lambda: checkpoint.load(written / name, "cpu"), lambda: checkpoint.encoder_of(written / name)):
        with pytest.raises(CheckpointError) as error:
            work()
        assert str(error.value) == (
            f"The checkpoint {written / name} cannot be loaded: it has {says}, which this version no longer has."
        )


@pytest.mark.parametrize("ensemble", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_under_its_old_names(architecture: str, ensemble: int, tmp_path: Path) -> None:
    captioner = Captioner(
        EncoderConfig("small_cnn", "none", views=((1.0, False), (1.0, True))),
        DecoderConfig(8, 16, 2, architecture, "gru", ensemble),
        TransformConfig(side=64),
        DecodingConfig(beam=2, max_length=5),
        Vocabulary.build(["a red picture"]),
        Style(),
    ).eval()
    folder = checkpoint.save(tmp_path / "saved", captioner)
    (folder / checkpoint.SUMS).unlink()
    info = json.loads((folder / "config.json").read_text())
    form = "between" if architecture == "two_layer_attention" else architecture
    attention = "additive" if architecture == "show_attend_tell" else "dot"
    decoder = {"embedding": 8, "hidden": 16, "heads": 2, "form": form, "cell": "gru", "attention": attention}
    decoder |= {"layers": 2, "tied": True, "standardised": False, "members": ensemble}
    encoder = {"name": "small_cnn", "weights": "none", "trained": "none", "levels": 1, "mirror_mean": True}
    transform = {"side": 64, "mean": [0.5] * 3, "std": [0.25] * 3}
    old = info | {"format": 2, "encoder": encoder, "decoder": decoder, "transform": transform}
    (folder / "config.json").write_text(json.dumps(old))
    names = {"backbone.": "body.", "decoder.ensemble.": "decoder.seats.", "positional_embedding": "places"}
    names |= {"attention.key_value.": "attention.keys_values."}
    weights = {}
    for name, value in load_file(folder / "model.safetensors").items():
        for today, before in names.items():
            name = name.replace(today, before)
        if ".standardisation." not in name:
            weights[name] = value
    save_file(weights, folder / "model.safetensors")
    again = checkpoint.load(folder, "cpu")
    assert again.decoder.config == captioner.decoder.config
    assert again.encoder.config == captioner.encoder.config
    images = sorted(ASSETS.glob("*.jpg"))
    assert again.caption(images) == captioner.caption(images)
    assert all(one.standardisation.measured for one in again.decoder.decoders), "or a retrain would measure channels"


def test_several_scales_and_sides_become_views() -> None:
    def views(**encoder: object) -> object:
        parts = {"encoder": encoder, "decoder": {}, "transform": {}, "decoding": {}}
        return legacy.config(parts)["encoder"]["views"]

    assert views() == [(1.0, False)]
    assert views(scales=[1.4, 0.8], mirror_mean=True, alternate=True) == [(1.4, False), (0.8, True)]
    assert views(scales=[1.0], mirror_mean=True, alternate=True) == [(1.0, False), (1.0, True)]
    assert views(scales=[1.0, 2.0], alternate=True) == [(1.0, False), (2.0, False)]


def test_options_that_left_are_ignored_where_they_did_nothing() -> None:
    decoding = {"beam": 3, "consensus": False, "min_length": 1, "no_repeat": 0}
    parts = {"encoder": {"last_blocks": 2}, "decoder": {"layers": 3}, "transform": {}, "decoding": decoding}
    assert legacy.config(parts)["decoding"] == {"beam": 3}
    assert legacy.config(parts)["decoder"] == {}
    for name, value in (("consensus", True), ("min_length", 2), ("no_repeat", 3)):
        with pytest.raises(
            CheckpointError, match=rf"it has decoding\.{name} {value}, which this version no longer has"
        ):
            legacy.config(parts | {"decoding": {name: value}})
