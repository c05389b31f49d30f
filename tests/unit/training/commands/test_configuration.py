import json
from pathlib import Path
from typing import Any

import pytest

from training.commands.configuration import complete, from_file, from_setting, merged, nested
from training.config import EncoderConfig, TrainingConfig
from training.errors import ConfigError, TrainingError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("epochs=3", {"epochs": 3}),
        ("decoder.hidden=1024", {"decoder": {"hidden": 1024}}),
        ("augmented=false", {"augmented": False}),
        ("decoder.cell=gru", {"decoder": {"cell": "gru"}}),
        ('decoder.cell="gru"', {"decoder": {"cell": "gru"}}),
        ("encoder.weights=folder/a=b.pth", {"encoder": {"weights": "folder/a=b.pth"}}),
        ("learning_rate=1", {"learning_rate": 1}),
        ("encoder.views=[[1.0, true]]", {"encoder": {"views": [[1.0, True]]}}),
        ('decoder={"hidden": 8, "heads": 2}', {"decoder": {"hidden": 8, "heads": 2}}),
    ],
)
def test_a_setting_is_json_or_a_text(text: str, values: dict[str, Any]) -> None:
    assert from_setting(text) == values
    complete(values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epochs", "--set epochs sets nothing; write --set decoder.hidden=1024."),
        ("=3", "--set : the configuration has no value ''; it has encoder, decoder,"),
        ("hidden=4", "the configuration has no value 'hidden'; it has encoder, decoder,"),
        ("decoder.hiden=4", "--set decoder.hiden: decoder has no value 'hiden'; it has embedding, hidden, heads,"),
        ("decoder.hidden=big", "decoder.hidden is 'big', not a valid integer."),
        ("decoder.hidden=1.5", "decoder.hidden is 1.5, not a valid integer."),
        ("decoder.hidden.more=1", "decoder.hidden is {'more': 1}, not a valid integer."),
        ("augmented=no", "augmented is 'no', not a valid boolean."),
        ("decoder.cell=rnn", "decoder.cell is 'rnn', not 'lstm' or 'gru'."),
        ("decoder.cell=[]", "decoder.cell is [], not 'lstm' or 'gru'."),
        ("decoder=5", "decoder is 5, not an object"),
        ("decoder=[1]", "decoder is [1], not an object"),
        ("seed=true", "seed is True, not a valid integer."),
        ("learning_rate=NaN", "learning_rate is nan, not a finite number."),
        ("learning_rate=1e999", "learning_rate is inf, not a finite number."),
        (f"learning_rate=1{'0' * 400}", "not a finite number."),
        ("encoder.weights=null", "encoder.weights is None, not a valid string."),
        ("encoder.views=2", "encoder.views is 2, not a valid array."),
        ("encoder.views=[1, false]", "encoder.views.0 is 1, not a valid array"),
        (
            "encoder.views=[[true, 1]]",
            "encoder.views.0.0 is True, not a valid number; encoder.views.0.1 is 1, not a valid boolean.",
        ),
    ],
)
def test_a_wrong_setting_is_one_error_that_names_what_exists(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_setting(text)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_may_hold_some_values_or_a_whole_config(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"epochs": 2, "decoder": {"cell": "gru"}}')
    assert from_file(path) == {"epochs": 2, "decoder": {"cell": "gru"}}
    config = TrainingConfig.starter(epochs=7)
    path.write_text(json.dumps(config.to_json()))
    assert complete(from_file(path)) == config


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"decoder": {"size": 1}}', "config.json: decoder has no value 'size'; it has embedding, hidden,"),
        ('{"encoder": "resnet18"}', "config.json: encoder is 'resnet18', not an object"),
        ("[]", "config.json: the configuration is [], not an object"),
        ("{", "config.json is not whole JSON"),
    ],
)
def test_a_wrong_file_is_one_error(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(TrainingError, match=r"config\.json") as raised:
        from_file(path)
    assert says in str(raised.value)


def test_of_several_layers_the_last_wins_value_by_value() -> None:
    layers = ({"decoder": {"hidden": 8, "cell": "gru"}, "seed": 1}, nested("decoder.hidden", 16), {"seed": 2})
    assert merged(*layers) == {"decoder": {"hidden": 16, "cell": "gru"}, "seed": 2}
    assert layers[0] == {"decoder": {"hidden": 8, "cell": "gru"}, "seed": 1}


def test_the_preset_follows_the_encoder() -> None:
    assert complete({}) == TrainingConfig.photos()
    assert complete({"encoder": {"name": "inception_v3", "weights": "none"}}).transform.side == 299
    assert complete(nested("encoder.name", "small_cnn")) == TrainingConfig.photos("small_cnn", "none")
    assert complete(nested("encoder.weights", "none")).encoder.trained == "all"
    assert complete({"encoder": {"weights": "none", "trained": "none"}}).encoder.trained == "none"
    assert complete(nested("encoder.trained", "all")).encoder.views == ((1.0, False),)
    assert complete(nested("encoder.trained", "all")).decoding.neighbours == 0 < complete({}).decoding.neighbours
    asked = {"encoder": {"trained": "all", "views": [[1.0, False], [1.5, True]]}}
    assert complete(asked).encoder.views == ((1.0, False), (1.5, True))
    assert complete({"epochs": 2}) == TrainingConfig.photos(epochs=2)
    assert complete({"epochs": 2}, scenes=True) == TrainingConfig.starter(epochs=2)
    assert complete({"seed": 4}, start_from=EncoderConfig()) == TrainingConfig.retraining(seed=4)
    rewarded = {"epochs": 0, "self_critical_epochs": 5}
    assert complete(rewarded, start_from=EncoderConfig()) == TrainingConfig.rewarded(5)
    assert complete({**rewarded, "frozen_epochs": 1}, start_from=EncoderConfig()).distillation
    assert complete(nested("self_critical_epochs", 5), start_from=EncoderConfig()).epochs == 8
    with pytest.raises(ConfigError, match=r"encoder\.name is 'vgg', which is no CNN"):
        complete(nested("encoder.name", "vgg"))
    with pytest.raises(ConfigError, match=r"batch_size is 0.*dropout is -1"):
        complete({"batch_size": 0, "dropout": -1.0})
