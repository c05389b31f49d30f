from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import trained as module
from benchmarks.trained import in_stages, seconds, trained
from tests.factories import picture
from training.config import DecoderConfig, TrainingConfig
from training.data import manifest
from training.data.manifest import DEV, HELD_OUT, Row


@pytest.mark.slow
def test_what_is_trained_is_not_trained_again_unless_rows_or_config_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        path.write_bytes(picture((40 * number, 9, 9)))
        split = {4: DEV, 5: HELD_OUT}.get(number, manifest.TRAIN)
        rows.append(Row(path, manifest.hash_file(path), (f"picture {number}", "a picture"), split))
    config = replace(TrainingConfig.photos("small_cnn", "none"), decoder=DecoderConfig(16, 32, heads=2), epochs=1)
    out, cache, made = tmp_path / "out", tmp_path / "cache", []
    train = module.train
    monkeypatch.setattr(module, "train", lambda *given, **options: made.append(given) or train(*given, **options))
    for again, (given, wanted) in enumerate([(rows, config), (rows, config), (rows[:5], config)]):
        assert trained(given, out, wanted, cache, "cpu") == out
        assert len(made) == 1, f"run {again}; a held-out row is not trained on"
    assert seconds(out) > 0
    trained(rows[1:], out, config, cache, "cpu")
    assert len(made) == 2
    trained(rows[1:], out, replace(config, learning_rate=1e-4), cache, "cpu")
    assert len(made) == 3
    checkpoint = out / "config.json"
    checkpoint.write_text(checkpoint.read_text().replace('"distillation"', '"of_an_earlier_release"'))
    trained(rows[1:], out, replace(config, learning_rate=1e-4), cache, "cpu")
    assert len(made) == 4
    stages = {"first": config, "second": TrainingConfig.rewarded(1)}
    for _ in range(2):
        assert [name for name, _ in in_stages(rows, tmp_path / "stages", stages, "cpu")] == ["first", "second"]
        assert len(made) == 6
    stages["first"] = replace(config, learning_rate=1e-4)
    assert [name for name, _ in in_stages(rows, tmp_path / "stages", stages, "cpu")] == ["first", "second"]
    assert len(made) == 8, "the second stage begins from another first one"
