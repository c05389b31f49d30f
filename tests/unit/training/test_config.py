import pytest

from training.config import DecodingConfig, EncoderConfig, TrainingConfig
from training.errors import ConfigError

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
    config = TrainingConfig(encoder=EncoderConfig("vgg", "", "some"), epochs=0, dropout=1.0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as error:
        config.validate()
    for part in ("encoder.name is 'vgg'", "encoder.trained", "encoder.weights", "epochs is 0", "dropout is 1.0"):
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
