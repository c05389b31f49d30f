from dataclasses import fields

import pytest

from training.config import (
    ARCHITECTURES,
    Config,
    DecoderConfig,
    DecodingConfig,
    EncoderConfig,
    TrainingConfig,
    TransformConfig,
)
from training.errors import ConfigError

NAN = float("nan")
MOST_OPTIONS = 35
PRESETS = [
    TrainingConfig(),
    TrainingConfig.photos("resnet50", "weights.pth", epochs=3),
    TrainingConfig.starter(),
    TrainingConfig.retraining(),
    TrainingConfig.retraining(EncoderConfig("small_cnn", "none", "all")),
]


@pytest.mark.parametrize("config", PRESETS)
def test_json_both_ways(config: TrainingConfig) -> None:
    assert TrainingConfig.from_json(config.validate().to_json()) == config


def test_tuples_survive_real_json() -> None:
    import json

    config = TrainingConfig.starter()
    assert TrainingConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_every_mistake_is_named_at_once() -> None:
    config = TrainingConfig(encoder=EncoderConfig("", "", "some"), epochs=0, dropout=1.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as error:
        config.validate()
    for part in ("encoder.name is empty", "encoder.trained", "encoder.weights", "epochs is 0", "dropout is 1.0"):
        assert part in str(error.value)


def test_unknown_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="beams"):
        DecodingConfig.from_json({"beams": 3})


def test_wrongly_typed_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="DecodingConfig"):
        DecodingConfig.from_json({"beam": "three"})


def test_imagenet_weights_of_an_encoder_without_any() -> None:
    with pytest.raises(ConfigError, match="small_cnn has none"):
        EncoderConfig("small_cnn", "imagenet").validate()


def test_photos_without_weights_train_the_encoder() -> None:
    assert TrainingConfig.photos("mobilenet_v2", "none").encoder.trained == "all"
    assert TrainingConfig.photos("mobilenet_v2", "imagenet").encoder.trained == "none"
    assert len(TrainingConfig.photos("mobilenet_v2", "imagenet").encoder.views) > 1
    assert TrainingConfig.photos("mobilenet_v2", "none").encoder.views == ((1.0, False),)


def test_a_checkpoint_records_no_path() -> None:
    assert EncoderConfig("resnet50", "/home/me/resnet.pth").without_path().weights == "resnet.pth"
    assert EncoderConfig("resnet50", "imagenet").without_path().weights == "imagenet"


def test_decoding_signature_tells_settings_apart() -> None:
    signatures = {
        DecodingConfig().signature(),
        DecodingConfig(beam=3).signature(),
        DecodingConfig(max_length=9).signature(),
    }
    assert len(signatures) == 3


@pytest.mark.parametrize(
    "name", ["small_cnn", "inception_v3", "efficientnet_v2_s", "resnet50", "tf_efficientnet_lite2"]
)
def test_photos_come_in_the_size_the_encoder_was_made_for_or_larger_where_it_is_kept(name: str) -> None:
    usual = {"small_cnn": 64, "inception_v3": 299, "efficientnet_v2_s": 384, "tf_efficientnet_lite2": 260}.get(
        name, 224
    )
    assert TrainingConfig.photos(name, "none").transform.side == usual
    if name != "small_cnn":
        assert TrainingConfig.photos(name, "imagenet").transform.side == max(usual, 320)


@pytest.mark.parametrize(("images", "epochs"), [(1, 100), (320, 60), (1_350, 14), (6_000, 7), (0, 7)])
def test_few_photos_are_repeated_for_more_epochs(images: int, epochs: int) -> None:
    assert TrainingConfig.photos(images=images).epochs == epochs
    assert TrainingConfig.photos(images=images, epochs=3).epochs == 3


def test_smaller_batches_need_fewer_epochs() -> None:
    assert TrainingConfig.photos(images=320, batch_size=8).epochs == 15


@pytest.mark.parametrize(("captions", "agreed"), [(1, 0), (14_999, 0), (15_000, 3), (None, 3)])
def test_of_few_captions_all_are_learned(captions: int | None, agreed: int) -> None:
    assert TrainingConfig.photos(captions=captions).agreed_captions == agreed
    assert TrainingConfig.photos(captions=captions, agreed_captions=2).agreed_captions == 2


def options(config: Config, prefix: str = "") -> list[str]:
    """The names of all values that a user can set."""
    found = []
    for item in fields(config):
        value = getattr(config, item.name)
        nested = options(value, f"{item.name}.") if isinstance(value, Config) else [prefix + item.name]
        found += nested
    return found


def test_there_are_few_options() -> None:
    """Others are constants beside the code they belong to; an option needs figures that show when to change it."""
    assert len(options(TrainingConfig())) <= MOST_OPTIONS


def test_a_quick_search_is_narrow_and_likeliest() -> None:
    wide = DecodingConfig(beam=20, length_penalty=0.7, max_length=9)
    assert wide.quick() == DecodingConfig(beam=5, length_penalty=0.7, max_length=9)
    assert DecodingConfig(beam=10, neighbours=20).quick() == DecodingConfig(beam=5)
    assert DecodingConfig(beam=2).quick() == DecodingConfig(beam=2)


WRONG: dict[type[Config], dict[str, list[object]]] = {
    EncoderConfig: {
        "name": [""],
        "trained": ["some", ""],
        "feature_stages": [0, -1],
        "weights": [""],
        "views": [
            (),
            ((0.0, False),),
            ((1.0, False), (4.1, True)),
            ((NAN, False),),
            ((1.0, 1),),
            (1.0,),
            (("1", True),),
        ],
    },
    TransformConfig: {"side": [31, 1025]},
    DecoderConfig: {
        "embedding": [0],
        "hidden": [0, 30],  # no multiple of the heads
        "heads": [0, 3],
        "architecture": ["sideways"],
        "cell": ["rnn"],
    },
    DecodingConfig: {
        "beam": [0, 65],
        "length_penalty": [-0.1, 4.1, NAN],
        "neighbours": [-1, 1001, 2.0],
        "max_length": [0, 201],
        "top_p": [-0.1, 1.1, NAN],
        "temperature": [0.0, -1.0, NAN],
    },
    TrainingConfig: {
        "epochs": [0],
        "frozen_epochs": [-1],
        "self_critical_epochs": [-1],
        "batch_size": [0],
        "captions_per_image": [0],
        "agreed_captions": [-1],
        "distillation": [-0.1, 1.1],
        "learning_rate": [0.0, -1.0],
        "label_smoothing": [-0.1, 1.0],
        "scheduled_sampling": [-0.1, 1.1],
        "dropout": [-0.1, 1.0],
        "seed": [-1],
    },
}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [(kind, name, value) for kind, values in WRONG.items() for name, wrong in values.items() for value in wrong],
)
def test_each_mistake_is_named(kind: type[Config], name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"The {kind.__name__} is wrong: .*\b{name}\b"):
        kind(**{name: value}).validate()


@pytest.mark.parametrize("kind", WRONG)
def test_all_mistakes_are_named_in_one_message(kind: type[Config]) -> None:
    with pytest.raises(ConfigError) as error:
        kind(**{name: wrong[0] for name, wrong in WRONG[kind].items()}).validate()
    assert all(name in str(error.value) for name in WRONG[kind])


def test_the_mistakes_of_all_parts_are_told_together() -> None:
    config = TrainingConfig(
        encoder=EncoderConfig(feature_stages=0),
        decoder=DecoderConfig(architecture="sideways"),
        transform=TransformConfig(side=1),
        decoding=DecodingConfig(top_p=2),
        epochs=0,
    )
    with pytest.raises(ConfigError) as error:
        config.validate()
    parts = ("encoder.feature_stages", "decoder.architecture", "transform.side", "decoding.top_p")
    for part in (*parts, "epochs is 0"):
        assert part in str(error.value)
    assert all(name in str(error.value) for name in ARCHITECTURES)


@pytest.mark.parametrize("weights", ["imagenet", "IMAGENET1K_V1"])
def test_downloads_are_known(weights: str) -> None:
    assert EncoderConfig("resnet50", weights).downloads
    assert EncoderConfig("resnet50", weights).without_path().weights == weights
    with pytest.raises(ConfigError, match="small_cnn has none"):
        EncoderConfig("small_cnn", weights).validate()


def test_sampling_and_its_seed_are_in_the_signature() -> None:
    signatures = {
        DecodingConfig(top_p=0.9).signature(),
        DecodingConfig(top_p=0.8).signature(),
        DecodingConfig(top_p=0.9, seed=2).signature(),
        DecodingConfig(top_p=0.9, temperature=0.5).signature(),
        DecodingConfig().signature(),
    }
    assert len(signatures) == 5
    assert DecodingConfig(seed=2).signature() == DecodingConfig().signature()  # a beam has no chance in it


def test_values_of_older_configs_are_read() -> None:
    config = TrainingConfig.from_json({"epochs": 3, "decoder": {"embedding": 8, "hidden": 16, "heads": 2}})
    assert config.decoder == DecoderConfig(8, 16, 2, "two_layer_attention", "lstm")
    assert config.self_critical_epochs == 0


def test_a_retrain_learns_every_correction() -> None:
    assert TrainingConfig.photos().agreed_captions == 3
    for name in ("small_cnn", "resnet50"):
        assert TrainingConfig.retraining(EncoderConfig(name, "none", "all")).agreed_captions == 0


def test_a_retrain_leaves_a_large_encoder_alone() -> None:
    config = TrainingConfig.retraining(EncoderConfig("resnet50", "none", "all"))
    assert (config.frozen_epochs, config.epochs) == (8, 0)
    assert TrainingConfig.retraining(EncoderConfig("resnet50", "none")).frozen_epochs == 0
    assert TrainingConfig.retraining(EncoderConfig("small_cnn", "none", "all")).frozen_epochs == 0
