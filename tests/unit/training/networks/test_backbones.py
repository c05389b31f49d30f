"""CNNs of each library, with random weights, on images as small as it takes."""

import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from training.config import EncoderConfig, TrainingConfig
from training.config.encoders import PACKAGED, described
from training.errors import ConfigError
from training.networks import backbones, weights
from training.networks.efficientnet_lite import EfficientNetLite
from training.networks.encoder import Encoder

STAGES = {  # channels of the last two
    "small_cnn": (48, 128),
    "vgg16": (512, 512),
    "resnet18": (256, 512),
    "resnet50": (1024, 2048),
    "resnet101": (1024, 2048),
    "inception_v3": (768, 2048),
    "mobilenet_v2": (96, 1280),
    "mobilenet_v3_large": (112, 960),
    "efficientnet_b0": (112, 1280),
    "efficientnet_v2_s": (160, 1280),
    "convnext_tiny": (384, 768),
    "regnet_y_3_2gf": (576, 1512),
    "tf_efficientnet_lite0": (112, 1280),
    "tinynet_e": (56, 1280),  # timm's
    "dla46_c": (128, 256),  # timm's, through features_only
}
ONE_OF_EACH = ["small_cnn", "mobilenet_v3_large", "tf_efficientnet_lite0", "tinynet_e"]
"""Networks of ours and one of each library."""
BOTH_SIDES = ((1.0, False), (1.0, True))


def made(
    name: str, trained: str = "none", stages: int = 1, views: tuple[tuple[float, bool], ...] = ((1.0, False),)
) -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(name, "none", trained, stages, views)).train()  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=STAGES)
def network(request: pytest.FixtureRequest) -> Encoder:
    return made(request.param, stages=2).eval()


def small(network: Encoder) -> int:
    """The side of images that are nearly as small as it can take."""
    return 80 if network.config.name == "inception_v3" else 64


def nearly(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for rounding, which deep networks with random weights make larger."""
    torch.testing.assert_close(found, expected, atol=max(1e-5, 1e-3 * expected.abs().max().item()), rtol=1e-3)


def mirrored(grid: torch.Tensor) -> torch.Tensor:
    side = round(grid.shape[1] ** 0.5)
    return grid.unflatten(1, (side, side)).flip(2).flatten(1, 2)


def test_the_grid_is_as_large_as_promised(network: Encoder) -> None:
    assert network.channels == sum(STAGES[network.config.name])
    side = small(network) + (32 if network.config.name == "dla46_c" else 17)
    with torch.inference_mode():
        grid = network(torch.randn(1, 3, side, side))
    assert grid.shape == (1, network.cells(side), network.channels)
    usual = {"small_cnn": (64, 64), "vgg16": (224, 196), "inception_v3": (299, 64), "efficientnet_v2_s": (384, 144)}
    side, cells = usual.get(network.config.name, (224, 49))
    assert network.cells(side) == cells


def test_stages_stand_side_by_side_each_cell_normalised(network: Encoder) -> None:
    images = torch.randn(2, 3, small(network), small(network))
    with torch.inference_mode():
        earlier, last = network.backbone(images).values()
        grid = network(images)
    assert earlier.shape[-1] > last.shape[-1]
    expected = []
    for maps in (nn.functional.adaptive_avg_pool2d(earlier, last.shape[-1]), last):
        cells = maps.flatten(2).transpose(1, 2)
        expected.append(nn.functional.layer_norm(cells, cells.shape[-1:]))
    nearly(grid, torch.cat(expected, dim=2))


def test_fused_normalisation_gives_the_same_maps(network: Encoder) -> None:
    for name, value in network.backbone.named_buffers():  # as if it had been trained
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    fused, images = network._fused_backbone(), torch.randn(1, 3, small(network), small(network))
    with torch.inference_mode():
        for found, expected in zip(fused(images).values(), network.backbone(images).values(), strict=True):
            nearly(found, expected)
    if network.config.name != "dla46_c":  # built through timm's features_only, whose layers may stand in any order
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())


def test_padding_within_the_convolutions_gives_the_same_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    network = made("tf_efficientnet_lite0", stages=5).eval()
    widened = network._fused_backbone()
    monkeypatch.setattr(EfficientNetLite, "widen", lambda backbone: None)
    plain = backbones.fused(network.backbone)
    assert set(widened.state_dict()) == set(plain.state_dict())
    for height, width in ((64, 64), (75, 75), (92, 92), (65, 65), (64, 75), (42, 63)):
        images = torch.randn(1, 3, height, width)
        with torch.inference_mode(), monkeypatch.context() as patched:
            expected = plain(images)
            if height == width == 64:  # of which all maps have even sides but the last
                patched.setattr(functional, "pad", None)
            for number, maps in widened(images).items():
                torch.testing.assert_close(maps, expected[number], rtol=1e-5, atol=1e-5 * maps.abs().max().item())


def test_a_frozen_encoder_is_all_evaluation_and_learns_nothing(network: Encoder) -> None:
    network.train()
    assert not any(module.training for module in network.modules())  # stochastic depth among them
    assert not any(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("name", [*ONE_OF_EACH, "efficientnet_b0"])
def test_all_is_trained_but_statistics_where_that_is_asked_for(name: str) -> None:
    network = made(name, "all")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    grid = network(torch.randn(2, 3, 64, 64))
    (grid * torch.randn_like(grid)).sum().backward()
    moved = {key for key, value in network.named_parameters() if value.grad is not None and value.grad.any()}
    parameters = [key for key, _ in network.named_parameters()]
    assert parameters[0] in moved
    assert len(moved) > 0.5 * len(parameters)  # stochastic depth leaves blocks out
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())  # no statistics


def test_stochastic_depth_is_of_training_alone() -> None:
    network, images = made("efficientnet_b0", "all"), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, other = (network.backbone(images)["0"] for _ in range(2))
        assert not torch.equal(one, other)
        network.eval()
        one, other = (network.backbone(images)["0"] for _ in range(2))
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_what_is_encoded_follows_the_weights(name: str) -> None:
    network, other, images = made(name).eval(), made(name).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        next(other.backbone.parameters()).add_(0.5)
    with torch.inference_mode():
        before, expected = network(images), other(images)
        network.load_state_dict(other.state_dict())
        assert not torch.allclose(before, expected)
        torch.testing.assert_close(network(images), expected)
    assert set(network.state_dict()) == set(other.state_dict()), "the fused weights are not stored"


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_views_are_averaged(name: str) -> None:
    images = torch.randn(1, 3, 64, 64)
    larger = nn.functional.interpolate(images, size=(128, 128), mode="bilinear", antialias=True)
    views = ((2.0, False), (1.0, True))
    full, other, both = (made(name, views=each).eval() for each in (((1.0, False),), BOTH_SIDES, views))
    with torch.inference_mode():
        turned = mirrored(full(images.flip(3)))
        nearly(other(images), (full(images) + turned) / 2)
        nearly(other(images.flip(3)), mirrored(other(images)))
        maps = full(larger).transpose(1, 2).unflatten(2, [round(full.cells(128) ** 0.5)] * 2)
        cells = round(turned.shape[1] ** 0.5)
        smaller = nn.functional.interpolate(maps, size=(cells, cells), mode="bilinear", antialias=True)
        nearly(both(images), (smaller.flatten(2).transpose(1, 2) + turned) / 2)
    assert both.cells(64) == full.cells(64)
    assert both.input_side(64) == 128


@pytest.mark.parametrize("name", PACKAGED)
def test_the_efficientnet_lite_is_timms_to_the_last_bit(name: str) -> None:
    timms, ours = backbones.TimmBackbone(name, 3), backbones.build(name, 3)
    generator = torch.Generator().manual_seed(5)
    for value in timms.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.01)
    assert list(ours.state_dict()) == list(timms.state_dict())
    ours.load_state_dict(timms.state_dict())
    images = torch.rand(2, 3, 75, 75, generator=generator)
    for training in (True, False):
        found, expected = ours.train(training)(images), timms.train(training)(images)
        assert all(torch.equal(found[number], expected[number]) for number in expected | found)
    assert backbones.map_shapes(ours, 75) == backbones.map_shapes(timms, 75)


def test_the_starters_encoder_does_without_libraries_that_take_seconds_to_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for library in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, library, None)
    described.cache_clear()
    network = made(TrainingConfig.photos().encoder.name, stages=2).eval()
    assert network.cells(320) == network(torch.rand(1, 3, 320, 320)).shape[1]


def test_more_stages_than_there_are_are_refused() -> None:
    for name, number in (("small_cnn", 3), ("tf_efficientnet_lite0", 5)):
        with pytest.raises(ConfigError, match=rf"feature_stages is 9, but the encoder has {number} resolutions"):
            made(name, stages=9)


@pytest.mark.parametrize(
    "name", ["vgg", "", "vit_b_16", "swin_t", "vit_tiny_patch16_224", "mixer_s32_224", "nothing.in1k"]
)
def test_a_name_that_is_no_cnn_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"encoder.name is '{name}', which is no CNN of torchvision or timm"):
        made(name)


def test_a_view_in_which_images_are_too_small_is_refused() -> None:
    network = made("inception_v3", views=((1.0, False), (0.5, False)))
    with pytest.raises(ConfigError, match=r"Images of 64x64 pixels are too small for inception_v3\."):
        network.cells(128)


def test_a_view_that_leaves_a_stage_out_is_refused() -> None:
    network = made("mobilenet_v2", stages=2, views=((1.0, False), (0.05, False)))
    with pytest.raises(ConfigError, match=r"Images of 16x16 pixels are too small for mobilenet_v2\."):
        network.cells(320)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_encoder_is_frozen_for_a_while(name: str) -> None:
    network = made(name, "all")
    network.freeze(True)
    assert network.frozen
    assert not any(value.requires_grad for value in network.parameters())
    network.train()
    assert not any(module.training for module in network.modules())
    network.freeze(False)
    assert not network.frozen
    assert all(value.requires_grad for value in network.parameters())
    network.train()
    before = [module.training for module in network.modules()]
    network.cells(64 + 16)
    assert [module.training for module in network.modules()] == before


@pytest.mark.parametrize(
    "name", ["small_cnn", "resnet18", "inception_v3", "mobilenet_v3_large", "tf_efficientnet_lite0"]
)
def test_a_librarys_own_weights_fit_in_half_precision(name: str, tmp_path: Path) -> None:
    import timm
    import torchvision

    if name == "small_cnn":
        whole: nn.Module = backbones.SmallCnn()
    elif name.startswith("tf"):
        whole = timm.create_model(name)
    else:
        whole = torchvision.models.get_model(name, weights=None, **backbones.OPTIONS.get(name, {}))
    generator = torch.Generator().manual_seed(4)
    state = {
        key: torch.rand(value.shape, generator=generator).half() if value.is_floating_point() else torch.tensor(7)
        for key, value in whole.state_dict().items()
    }
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    network = Encoder(EncoderConfig(name, str(path)))
    weights.load(network)
    loaded = network.backbone.state_dict()
    assert loaded
    for key, value in loaded.items():
        assert torch.equal(value, state[key.removeprefix("network.")].to(value.dtype)), key


def test_inception_scales_colours_as_its_weights_were_trained() -> None:
    import torchvision

    torch.manual_seed(0)
    whole = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    network = made("inception_v3").eval()
    state = {key: value for key, value in whole.state_dict().items() if not key.startswith(("AuxLogits", "fc"))}
    network.backbone.load_state_dict(state)
    images = torch.randn(1, 3, 80, 80)
    with torch.inference_mode():
        torch.testing.assert_close(whole.fc(network(images).mean(dim=1)), whole(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", ["built", "fused"])
def test_what_another_thread_computes_is_left_alone_while_an_encoder_is(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbones.build("small_cnn")
    other = nn.Sequential(nn.Linear(1, 1, bias=False))
    nn.init.constant_(other[0].weight, 2.0)
    trace, doubled = fx.Tracer.create_proxy, list[float]()

    def beside(*given: Any, **options: Any) -> Any:
        thread = threading.Thread(target=lambda: doubled.append(other(torch.ones(1, 1)).item()))
        thread.start()
        thread.join()
        return trace(*given, **options)

    monkeypatch.setattr(fx.Tracer, "create_proxy", beside)
    if step == "built":
        backbones.build("small_cnn")
    else:
        backbones.fused(backbone)
    monkeypatch.undo()
    assert len(doubled) > 5
    assert set(doubled) == {2.0}
    assert nn.Module.__call__ is nn.Module._wrapped_call_impl
