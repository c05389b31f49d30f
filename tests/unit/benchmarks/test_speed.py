"""Figures of the benchmarks that measure the speed of networks, from times that are given here."""

import time

import numpy as np
import pytest

from benchmarks import gpu, layers, training


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
