"""onnxruntime beside torch: the same captions where it is used, and torch wherever anything is wrong."""

import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from training.captioner.captioner import Captioner
from training.networks import engine
from training.networks.encoder import Encoder


@pytest.fixture(autouse=True)
def always_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CLEARLY_FASTER", 0.0)
    monkeypatch.setattr(engine, "WORTH_SECONDS", 0.0)


def encoded(captioner: Captioner) -> torch.Tensor:
    pixels = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return captioner.encode(pixels)


def fails(*given: object) -> None:
    raise RuntimeError("no such operator\nand much more")


@pytest.mark.usefixtures("exact")
def test_captions_are_the_same(tiny: Captioner, picture: Callable[..., Path], tmp_path: Path) -> None:
    pictures = [picture(colour) for colour in ("red", "blue", "green")]
    before, grids = tiny.caption(pictures), encoded(tiny)
    tiny.accelerate(tmp_path / "compiled")
    assert tiny.encoder.is_accelerated
    after = tiny.caption(pictures)
    torch.testing.assert_close(encoded(tiny), grids, rtol=1e-4, atol=1e-5)
    assert [each.text for each in after] == [each.text for each in before]  # type: ignore[union-attr]


def test_an_encoder_is_exported_once(tiny: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.accelerate(tmp_path)
    (kept,) = tmp_path.iterdir()
    tiny.encoder._engines.clear()
    monkeypatch.setattr(engine, "_export", pytest.fail)
    tiny.accelerate(tmp_path)
    assert tiny.encoder.is_accelerated
    assert list(tmp_path.iterdir()) == [kept]


def test_it_is_used_only_where_it_is_clearly_faster(
    tiny: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((1.4, 1.6))
    monkeypatch.setattr(engine, "CLEARLY_FASTER", 1.5)
    monkeypatch.setattr(engine, "_times_as_fast", lambda *given: next(times))
    for used in (False, True):
        tiny.accelerate(tmp_path)
        assert tiny.encoder.is_accelerated == used


def test_work_that_runs_beside_does_not_change_what_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    torchs, engines = itertools.cycle((0.2, 0.2, 0.9)), itertools.cycle((0.4, 0.1, 0.8))
    monkeypatch.setattr(engine, "_seconds", lambda encode, images: next(encode))
    assert engine._times_as_fast(engines, torchs, torch.empty(0)) == 2.0  # type: ignore[arg-type]


def test_nothing_is_captioned_while_both_are_timed(
    tiny: Captioner, picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = engine._seconds
    pixels = [tiny.read(picture("red"))]
    found: list[bool] = []

    def timing(encode: engine.Backbone, images: torch.Tensor) -> float:
        if isinstance(encode, engine.Engine):
            captioning = threading.Thread(target=tiny.caption_pixels, args=(pixels,))
            captioning.start()
            captioning.join(0.05)
            found.append(captioning.is_alive())
        return seconds(encode, images)

    monkeypatch.setattr(engine, "_seconds", timing)
    monkeypatch.setattr(engine, "ROUNDS", 2)
    tiny.accelerate(tmp_path)
    assert found == [True, True]


def test_an_encoder_that_takes_no_time_is_not_exported(
    tiny: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WORTH_SECONDS", 100.0)
    tiny.accelerate(tmp_path)
    assert not tiny.encoder.is_accelerated
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["export", "damaged", "other maps"])
def test_torch_goes_on_after_any_fault_which_is_told_in_one_line(
    fault: str, tiny: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    grids = encoded(tiny)
    if fault == "export":
        monkeypatch.setattr(engine, "_export", fails)
    elif fault == "damaged":
        monkeypatch.setattr(engine, "_export", lambda backbone, side, path: path.write_bytes(b"no network"))
    else:
        whole = engine.Engine.__call__
        monkeypatch.setattr(
            engine.Engine, "__call__", lambda self, images: {key: 2 * maps for key, maps in whole(self, images).items()}
        )
    with caplog.at_level(logging.INFO):
        tiny.accelerate(tmp_path)
    (line,) = [record.getMessage() for record in caplog.records if record.name == engine.__name__]
    assert line.startswith("onnxruntime cannot encode images of 32 pixels, so torch does: ")
    assert "\n" not in line
    assert not list(tmp_path.iterdir()), "the next start tries again"
    assert torch.equal(encoded(tiny), grids)


def test_nothing_is_done_without_the_packages_or_for_an_encoder_that_is_trained(
    tiny: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(engine, "_export", pytest.fail)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "version", missing)
        tiny.accelerate(tmp_path)
    tiny.encoder.config = dataclasses.replace(tiny.encoder.config, trained="all")
    tiny.accelerate(tmp_path)
    assert not tiny.encoder.is_accelerated


def test_other_weights_are_encoded_by_torch(tiny: Captioner, tmp_path: Path) -> None:
    tiny.accelerate(tmp_path)
    torch.manual_seed(7)
    other = Encoder(tiny.encoder.config).eval()
    tiny.encoder.load_state_dict(other.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(tiny.encoder(images), other(images))
