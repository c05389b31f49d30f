"""Every encoder there is, with random weights, on images as small as it takes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from training.config import ENCODERS, EncoderConfig
from training.errors import ConfigError
from training.networks import backbones, weights
from training.networks.encoder import Encoder

CHANNELS = {
    "small_cnn": 128,
    "vgg16": 512,
    "resnet18": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "inception_v3": 2048,
    "mobilenet_v2": 1280,
    "mobilenet_v3_large": 960,
    "efficientnet_b0": 1280,
    "efficientnet_v2_s": 1280,
    "convnext_tiny": 768,
    "regnet_y_3_2gf": 1512,
}
BARE = {"inception_v3", "vgg16"}  # these take long to make up weights


@pytest.fixture(scope="module", params=ENCODERS)
def network(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(request.param, "none"))


def small(network: Encoder) -> int:
    """The side of images that are nearly as small as it can take."""
    return 80 if network.config.name == "inception_v3" else 64


def learning(network: Encoder, trained: str, **changes: object) -> Encoder:
    """The network as if it had been made with this config."""
    network.config = EncoderConfig(network.config.name, "none", trained, **changes)  # type: ignore[arg-type]
    network.hold(False)
    return network.train()


def moved(network: Encoder) -> set[str]:
    """The names of the weights and statistics that one step of descent moves; it is taken back."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(0)
    grid = network(torch.randn(1, 3, small(network), small(network)))
    (grid * torch.randn_like(grid)).sum().backward()
    with torch.no_grad():
        for value in network.parameters():
            if value.grad is not None:
                value.sub_(value.grad.sign())
    network.zero_grad()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    network.load_state_dict(before)
    return changed


def nearly(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for rounding, which deep networks with random weights make larger."""
    torch.testing.assert_close(found, expected, atol=max(1e-5, 1e-3 * expected.abs().max().item()), rtol=1e-3)


def test_the_grid_is_as_large_as_promised(network: Encoder) -> None:
    learning(network, "none").eval()
    assert network.channels == CHANNELS[network.config.name]
    for side in (small(network), small(network) + 17):
        with torch.inference_mode():
            assert network(torch.zeros(1, 3, side, side)).shape == (1, network.cells(side), network.channels)


def test_the_grid_is_of_the_usual_size_on_images_of_the_usual_size(network: Encoder) -> None:
    learning(network, "none")
    usual = {"small_cnn": (64, 64), "vgg16": (224, 196), "inception_v3": (299, 64), "efficientnet_v2_s": (384, 144)}
    side, cells = usual.get(network.config.name, (224, 49))
    assert network.cells(side) == cells


def test_a_pooled_grid_is_the_mean_of_its_cells(network: Encoder) -> None:
    images = torch.randn(1, 3, small(network), small(network))
    with torch.inference_mode():
        grid = learning(network, "none").eval()(images)
        pooled = learning(network, "none", pooled=True).eval()(images)
    assert pooled.shape == (1, 1, network.channels)
    assert network.cells(224) == 1
    torch.testing.assert_close(pooled[:, 0], grid.mean(dim=1))


def test_a_frozen_encoder_is_all_evaluation_and_learns_nothing(network: Encoder) -> None:
    learning(network, "none")
    assert not any(module.training for module in network.modules())  # stochastic depth among them
    assert not any(value.requires_grad for value in network.parameters())


def last_blocks_alone(network: Encoder, number: int) -> None:
    changed = moved(learning(network, "last", last_blocks=number))
    last = [layer for layer in network.body.layers()[network.body.first_of(number) :] if list(layer.parameters())]
    owned = {id(value) for layer in last for value in layer.parameters()}
    assert changed <= {name for name, value in network.named_parameters() if id(value) in owned}
    # a bias or a scale may happen to feel nothing; what convolutes does
    for layer in last:
        mine = {id(value) for value in layer.parameters() if value.ndim > 1}
        assert not mine or {name for name, value in network.named_parameters() if id(value) in mine} & changed


def test_only_the_last_block_is_trained_where_that_is_asked_for(network: Encoder) -> None:
    last_blocks_alone(network, 1)


@pytest.mark.parametrize("name", ["small_cnn", "mobilenet_v3_large"])
def test_as_many_blocks_are_trained_as_asked_for(name: str) -> None:
    network = Encoder(EncoderConfig(name, "none"))
    last_blocks_alone(network, 2)
    last_blocks_alone(network, 3)


def test_all_is_trained_but_statistics_where_that_is_asked_for(network: Encoder) -> None:
    learning(network, "all")
    assert all(value.requires_grad for value in network.parameters())
    changed, parameters = moved(network), [name for name, _ in network.named_parameters()]
    assert changed <= set(parameters)  # no statistics of batch normalisation
    assert parameters[0] in changed
    assert len(changed) > 0.5 * len(parameters)  # stochastic depth leaves blocks out


def test_the_layers_are_the_whole_network(network: Encoder) -> None:
    held = [id(value) for layer in network.body.layers() for value in layer.parameters()]
    assert held == [id(value) for value in network.body.parameters()]
    assert network.body.first_of(1) > network.body.first_of(2) > network.body.first_of(4) >= 0
    assert network.body.first_of(1000) == network.body.first_of(999)


@pytest.mark.parametrize("mirror_mean", [False, True])
def test_the_trunk_and_the_top_are_the_whole_encoder(mirror_mean: bool, network: Encoder) -> None:
    images = torch.randn(1, 3, small(network), small(network))
    with torch.inference_mode():
        grid = learning(network, "none", mirror_mean=mirror_mean).eval()(images)
        for trained, keeps in (("none", "grid"), ("last", "maps"), ("all", "pixels")):
            learning(network, trained, mirror_mean=mirror_mean).eval()
            assert network.keeps == keeps
            maps = network.trunk(images)
            if keeps == "maps":
                assert maps.shape[1:] == network.maps_shape(images.shape[-1])
            nearly(network.top(maps), grid)  # what is never trained has its normalisation folded in


def test_a_mirror_mean_is_that_of_both_sides(network: Encoder) -> None:
    images = torch.randn(2, 3, small(network), small(network))
    with torch.inference_mode():
        plain, mirrored = (learning(network, "none").eval()(each) for each in (images, images.flip(3)))
        mean, turned = (learning(network, "none", mirror_mean=True).eval()(each) for each in (images, images.flip(3)))
    side = round(plain.shape[1] ** 0.5)

    def turn(grid: torch.Tensor) -> torch.Tensor:
        return grid.unflatten(1, (side, side)).flip(2).flatten(1, 2)

    torch.testing.assert_close(mean, (plain + turn(mirrored)) / 2)
    torch.testing.assert_close(turned, turn(mean))


def test_more_levels_stand_side_by_side(network: Encoder) -> None:
    images = torch.randn(2, 3, small(network), small(network))
    with torch.inference_mode():
        alone = learning(network, "none").eval()(images)  # (2, P, C)
        both = learning(network, "none", levels=2).eval()(images)
    assert both.shape[:2] == alone.shape[:2]
    assert both.shape[2] == network._shape(small(network), None)[0] > alone.shape[2]
    norm = nn.LayerNorm(alone.shape[2], elementwise_affine=False)
    torch.testing.assert_close(both[:, :, -alone.shape[2] :], norm(alone))
    with torch.inference_mode():
        maps = [
            learning(network, "none").eval().body(images, 0, end) for end in range(1, len(network.body.layers()) + 1)
        ]
    before = next(each for each in reversed(maps) if each.shape[-1] > maps[-1].shape[-1])
    pooled = nn.functional.adaptive_avg_pool2d(before, maps[-1].shape[-1]).flatten(2).transpose(1, 2)
    norm = nn.LayerNorm(before.shape[1], elementwise_affine=False)
    torch.testing.assert_close(both[:, :, : -alone.shape[2]], norm(pooled))


def test_folded_normalisation_gives_the_same_maps(network: Encoder) -> None:
    body = learning(network, "none").eval().body
    state = {name: value.clone() for name, value in body.state_dict().items()}
    try:
        for name, value in body.named_buffers():  # as if it had learned something
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
        folded = body.folded()
        images = torch.randn(1, 3, small(network), small(network))
        with torch.inference_mode():
            for levels in (1, 2):
                nearly(folded(images, levels=levels), body(images, levels=levels))
    finally:
        body.load_state_dict(state)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in body.modules()) == (
        network.config.name not in {"vgg16", "convnext_tiny"}
    )


def test_what_is_seen_follows_the_weights() -> None:
    torch.manual_seed(0)
    network, other = (Encoder(EncoderConfig("small_cnn", "none", "none")).eval() for _ in range(2))
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = network(images)
        expected = other(images)
        network.load_state_dict(other.state_dict())
        assert not torch.allclose(before, expected)
        torch.testing.assert_close(network(images), expected)
    with torch.no_grad():
        next(network.body.parameters()).mul_(2)
        assert not torch.allclose(network(images), expected)
    assert set(network.state_dict()) == set(other.state_dict()), "the faster form is not stored"


def test_of_several_levels_only_the_last_block_learns_where_that_is_asked_for(network: Encoder) -> None:
    images = torch.randn(1, 3, small(network), small(network))
    learning(network, "last", levels=2)
    assert network.keeps == "pixels"
    network(images).sum().backward()
    learned = {name for name, value in network.body.named_parameters() if value.grad is not None}
    last = network.body.layers()[network.kept_layers :]
    kept = {id(value) for layer in last for value in layer.parameters()}
    assert learned == {name for name, value in network.body.named_parameters() if id(value) in kept}
    network.zero_grad()


def test_more_levels_than_there_are_are_refused(network: Encoder) -> None:
    with pytest.raises(ConfigError, match=r"levels is 9, but the encoder has [3-7] resolutions"):
        learning(network, "none", levels=9).cells(64 + 16)


@pytest.mark.parametrize("mirror_mean", [False, True])
def test_of_several_scales_the_mean_is_what_is_seen(mirror_mean: bool, network: Encoder) -> None:
    side = small(network)
    images = torch.randn(1, 3, side, side)
    larger = nn.functional.interpolate(images, size=(2 * side, 2 * side), mode="bilinear", antialias=True)
    with torch.inference_mode():
        own, other = (
            learning(network, "none", levels=2, mirror_mean=mirror_mean).eval()(each) for each in (images, larger)
        )
        mean = learning(network, "none", levels=2, mirror_mean=mirror_mean, scales=(1.0, 2.0)).eval()(images)
        alone = learning(network, "none", levels=2, mirror_mean=mirror_mean, scales=(2.0,)).eval()(images)
    assert network.cells(side) == own.shape[1] == mean.shape[1] == alone.shape[1]

    def maps(grid: torch.Tensor) -> torch.Tensor:
        return grid.transpose(1, 2).unflatten(2, [round(grid.shape[1] ** 0.5)] * 2)

    size = maps(own).shape[-1]
    smaller = nn.functional.interpolate(maps(other), size=(size, size), mode="bilinear", antialias=True)
    torch.testing.assert_close(maps(mean), (maps(own) + smaller) / 2)
    torch.testing.assert_close(maps(alone), smaller)


def test_of_scales_in_turn_each_is_looked_at_from_one_side(network: Encoder) -> None:
    side = small(network)
    images = torch.randn(1, 3, side, side)

    def seen(of: torch.Tensor, **changes: object) -> torch.Tensor:
        return learning(network, "none", levels=2, **changes).eval()(of)  # (1, P, C)

    with torch.inference_mode():
        in_turn = seen(images, mirror_mean=True, alternate=True, scales=(2.0, 1.0, 2.0))
        assert network.looks == 3
        larger, mirrored = seen(images, scales=(2.0,)), seen(images.flip(3))
        one_scale = seen(images, mirror_mean=True, alternate=True)
        assert network.looks == 2
        both = seen(images, mirror_mean=True)
    cells = round(mirrored.shape[1] ** 0.5)
    turned_back = mirrored.unflatten(1, (cells, cells)).flip(2).flatten(1, 2)
    nearly(in_turn, (2 * larger + turned_back) / 3)
    torch.testing.assert_close(one_scale, both)


@pytest.mark.parametrize("scales", [(1.0, 1.5), (1.5,)])
def test_no_maps_are_kept_of_other_scales(scales: tuple[float, ...], network: Encoder) -> None:
    learning(network, "last", scales=scales)
    assert network.keeps == "pixels"


def test_a_scale_at_which_images_are_too_small_is_refused() -> None:
    network = Encoder(EncoderConfig("inception_v3", "none", scales=(1.0, 0.5)))
    with pytest.raises(ConfigError, match=r"Images of 64x64 pixels are too small for inception_v3\."):
        network.cells(128)


def test_a_scale_that_leaves_a_level_out_is_refused() -> None:
    network = Encoder(EncoderConfig("mobilenet_v2", "none", levels=2, scales=(1.0, 0.05)))
    with pytest.raises(ConfigError, match=r"Images of 16x16 pixels are too small for mobilenet_v2\."):
        network.cells(320)


def test_a_held_encoder_rests_for_a_while(network: Encoder) -> None:
    learning(network, "all").hold(True)
    assert network.frozen
    assert not any(value.requires_grad for value in network.parameters())
    network.train()
    assert not any(module.training for module in network.modules())
    network.hold(False)
    assert not network.frozen
    assert all(value.requires_grad for value in network.parameters())


def test_counting_cells_leaves_the_mode_alone(network: Encoder) -> None:
    learning(network, "all")
    before = [module.training for module in network.modules()]
    network.cells(64 + 16)
    assert [module.training for module in network.modules()] == before


def random_weights(name: str) -> dict[str, torch.Tensor]:
    """As torchvision's own network has them, the classifier among them but for its size."""
    if name == "small_cnn":
        return Encoder(EncoderConfig(name, "none")).body.state_dict()
    import torchvision

    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # regnet computes with numbers when it is built
        whole = torchvision.models.get_model(name, weights=None, **({"init_weights": False} if name in BARE else {}))
    generator = torch.Generator().manual_seed(4)
    return {
        key: torch.zeros(2)
        if key.startswith(("classifier", "fc"))
        else torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else torch.tensor(7)
        for key, value in whole.state_dict().items()
    }


def test_torchvisions_own_weights_fit_in_half_precision(network: Encoder, tmp_path: Path) -> None:
    name = network.config.name
    state = {key: value.half() if value.is_floating_point() else value for key, value in random_weights(name).items()}
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.config = EncoderConfig(name, str(path))
    try:
        weights.load(network)
        for key, value in network.body.state_dict().items():
            assert torch.equal(value, state[key].to(value.dtype)), key
    finally:
        network.load_state_dict(before)


def test_inception_sees_colours_as_its_weights_were_trained() -> None:
    import torchvision

    torch.manual_seed(0)
    whole = torchvision.models.inception_v3(weights=None, init_weights=False, transform_input=True).eval()
    body = backbones.InceptionBody(whole).eval()
    images = torch.randn(1, 3, 80, 80)
    with torch.inference_mode():
        torch.testing.assert_close(whole.fc(body(images).mean(dim=(2, 3))), whole(images), rtol=1e-4, atol=1e-4)


def test_vgg_stops_before_its_last_pooling() -> None:
    layers = list(backbones.build("vgg16").features.children())  # type: ignore[union-attr]
    assert isinstance(layers[-1], nn.ReLU)
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in layers) == 4
