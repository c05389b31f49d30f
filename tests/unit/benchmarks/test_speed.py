"""Figures of the benchmarks that measure the speed of networks, from times that are given here."""

import time

import numpy as np
import pytest
import torch

from benchmarks import fidelity, gpu, layers, training, tutorial
from training.captioner.captioner import Captioner
from training.config import DecoderConfig, DecodingConfig, EncoderConfig, TransformConfig
from training.vocabulary import SPECIALS, Style, Vocabulary


def test_gpu_rates_are_of_the_median_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], iter([5.0, 5.0, 0.5, 0.1, 0.9, 0.5, 0.5, 0.5])  # the first two warm up
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def call() -> None:
        clock[0] += next(calls)

    assert gpu._rate(call, "cpu", seconds=12.0) == 2


def test_gpu_over_cpu_is_of_what_was_measured_on_both() -> None:
    assert gpu._ratios({"cpu_caption": 2.0, "cpu_train": 4.0}) == {}
    measured = {"cpu_caption": 2.0, "cuda_caption": 30.0, "cpu_train": 4.0, "cuda_train": 40.0}
    assert gpu._ratios(measured) == {"cuda_over_cpu_caption": 15, "cuda_over_cpu_train": 10}


def test_gpu_pipelines_are_compared_with_the_slower_of_decoder_and_encoder() -> None:
    figures = {"cuda_encode_resnet50": 80.0, "cuda_decode_small": 100.0, "cuda_decode_phone": 20.0}
    measured = figures | {"cuda_read_and_encode_small": 60.0, "cuda_read_and_encode_phone": 15.0}
    expected = {"cuda_pipeline_over_slower_small": 0.75, "cuda_pipeline_over_slower_phone": 0.75}
    assert gpu._pipelines(measured) == expected


def test_layers_compares_times_pair_by_pair() -> None:
    figures = layers._figures("encoding", [1.0, 2.0, 4.0], [2.0, 6.0, 16.0], number=4)
    assert figures == {"encoding_ms": 500, "encoding_speedup": 3}


def test_training_compares_close_sides_pair_by_pair() -> None:
    rates = {"training": [9.0, 45.0, 8.0], "bare": [10.0, 50.0, 10.0], "tutorial": [3.0]}
    figures = training._figures(rates)
    assert (figures["training"], figures["bare"], figures["tutorial"]) == (9, 10, 3)
    assert figures["over_bare_step"] == pytest.approx(0.9)
    assert figures["over_tutorial_form"] == 3


def test_training_captions_are_as_long_as_those_of_flickr8k() -> None:
    rows = training._rows(96, [f"w{number}" for number in range(training.WORDS)])
    lengths = [len(caption.split()) for row in rows for caption in row.references]
    assert np.mean(lengths) == pytest.approx(training.MEAN_LENGTH, abs=0.6)
    assert len({row.sha256 for row in rows}) == len(rows) == 96


def test_the_tutorials_form_is_compared_chunk_by_chunk() -> None:
    figures = tutorial._figures(
        {"starter": [1.0, 2.0, 1.0], "tutorial": [8.0, 20.0, 12.0], "same_encoder": [3.0, 6.0, 4.0]}, images=8
    )
    assert (figures["starter"], figures["tutorial"], figures["same_encoder"]) == (2, 0.2, pytest.approx(8 / 13))
    assert (figures["over_tutorial_form"], figures["same_encoder_over_tutorial_form"]) == (10, 3)


def test_the_tutorials_captions_are_as_long_as_asked() -> None:
    torch.manual_seed(0)
    decoder = tutorial.TutorialDecoder(words=20, channels=6, embedding=4, hidden=8)
    with torch.no_grad():
        assert len(decoder.search(torch.randn(1, 9, 6), 5)) == 5


def test_the_plain_implementation_captions_as_the_served_one() -> None:
    torch.manual_seed(0)
    vocabulary = Vocabulary((*SPECIALS, *(f"w{number}" for number in range(12))))
    parts = EncoderConfig("small_cnn", "none", "none", feature_stages=2), DecoderConfig(16, 32, 2), TransformConfig(32)
    captioner = Captioner(*parts, DecodingConfig(beam=3, max_length=6), vocabulary, Style()).eval()
    [decoder] = captioner.decoder.decoders
    with torch.no_grad():
        decoder.embedding.weight.mul_(6)  # decided opinions
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    figures = fidelity.measured(captioner, list(images), [["w1 w2 w3 w4"]] * 6)
    assert figures["float32_equal_share"] == 1
    assert figures["float32_bleu4_difference"] == 0
    assert figures.keys() == fidelity.MEANINGS.keys()
