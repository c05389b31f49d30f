from pathlib import Path

import pytest
import torch
from torch import nn

from training import encoder
from training.config import EncoderConfig, TransformConfig
from training.encoder import Encoder
from training.errors import WeightsError


@pytest.mark.parametrize(
    ("name", "channels", "side"), [("small_cnn", 128, 64), ("mobilenet_v2", 1280, 96), ("resnet50", 2048, 96)]
)
def test_grid_shape(name: str, channels: int, side: int) -> None:
    network = Encoder(EncoderConfig(name, "none", "none")).eval()
    with torch.inference_mode():
        grid = network(torch.zeros(2, 3, side, side))
    assert grid.shape == (2, network.cells(side), channels)
    assert network.channels == channels


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50"])
def test_torchvision_state_dict_fits_in_half_precision(name: str, tmp_path: Path) -> None:
    import torchvision

    torch.manual_seed(3)
    whole = getattr(torchvision.models, name)(weights=None).eval()
    path = tmp_path / "weights.pth"
    state = {key: value.half() if value.is_floating_point() else value for key, value in whole.state_dict().items()}
    torch.save(state, path)
    whole.load_state_dict(state)
    network = Encoder(EncoderConfig(name, str(path), "none")).eval()
    encoder.load_weights(network)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        ours = network(images).mean(dim=1)
        head = whole.fc if name == "resnet50" else whole.classifier
        torch.testing.assert_close(head(ours), whole(images), rtol=1e-3, atol=1e-4)


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="not those of resnet50"):
        encoder.load_weights(Encoder(EncoderConfig("resnet50", str(tmp_path / "other.pth"))))


def test_weights_of_another_shape(tmp_path: Path) -> None:
    network = Encoder(EncoderConfig("small_cnn", "none", "all"))
    state = network.body.state_dict()
    state["layers.0.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth are not those of small_cnn"):
        encoder.load_weights(Encoder(EncoderConfig("small_cnn", str(tmp_path / "odd.pth"))))


@pytest.mark.parametrize("content", [None, b"", b"not weights"])
def test_unreadable_weights(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.pth"):
        encoder.load_weights(Encoder(EncoderConfig("small_cnn", str(path))))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"layers.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError):
        encoder.load_weights(Encoder(EncoderConfig("small_cnn", str(tmp_path / "evil.pth"))))
    assert not (tmp_path / "ran").exists()


def test_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def refuse(name: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model_weights", refuse)
    with pytest.raises(WeightsError, match=r"no route to host.*--encoder-weights FILE"):
        encoder.load_weights(Encoder(EncoderConfig("resnet50", "imagenet")))


@pytest.mark.parametrize(("from_nothing", "moves"), [(False, False), (True, True)])
def test_batch_normalisation_gathers_statistics_only_from_nothing(from_nothing: bool, moves: bool) -> None:
    network = Encoder(EncoderConfig("small_cnn", "none", "all"))
    network.from_nothing = from_nothing
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    before = norm.running_mean.clone()  # type: ignore[union-attr]
    network.train()(torch.randn(2, 3, 32, 32))
    assert bool((norm.running_mean != before).any()) == moves
    network.eval()
    assert not norm.training


def test_frozen_parameters_learn_nothing() -> None:
    assert not any(p.requires_grad for p in Encoder(EncoderConfig("small_cnn", "none", "none")).parameters())
    assert all(p.requires_grad for p in Encoder(EncoderConfig("small_cnn", "none", "all")).parameters())


def test_features_hash_follows_weights_and_transform() -> None:
    torch.manual_seed(0)
    network, transform = Encoder(EncoderConfig("small_cnn", "none", "none")), TransformConfig(side=64)
    first = encoder.features_hash(network, transform)
    assert encoder.features_hash(network, transform) == first
    assert encoder.features_hash(network, TransformConfig(side=96)) != first
    with torch.no_grad():
        next(network.parameters())[0] += 1
    assert encoder.features_hash(network, transform) != first
