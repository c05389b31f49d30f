from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest

from training.decoding.reuse import THRESHOLD, Correction, CorrectionMemory, FeatureSpace, SeenImages

CHANNELS = 1400


@pytest.fixture
def space() -> FeatureSpace:
    return FeatureSpace("an encoder", np.zeros(CHANNELS, np.float32), np.full(CHANNELS, 3.0, np.float32))


def features(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(number, CHANNELS)).astype(np.float16)


def near(feature: np.ndarray, noise: float) -> bytes:
    """Another feature, farther from it the greater the noise."""
    moved = feature + noise * np.random.default_rng(9).normal(size=feature.shape)
    return bytes(moved.astype(np.float16).tobytes())


def filled(space: FeatureSpace | None, given: np.ndarray) -> CorrectionMemory:
    memory = CorrectionMemory(space)
    for number in range(len(given)):
        memory.put(number, Correction(f"image {number}", f"caption {number}", 100 + number, at=number))
    memory.add_features({f"image {number}": feature.tobytes() for number, feature in enumerate(given)})
    return memory


def test_the_same_content_gets_its_latest_correction(space: FeatureSpace) -> None:
    memory = CorrectionMemory()
    memory.put(1, Correction("a", "the first", 7, at=2.0))
    memory.put(2, Correction("a", "the second", 8, at=3.0))
    memory.put(3, Correction("a", "an earlier one that came late", 9, at=1.0))
    assert memory.match("a") == Correction("a", "the second", 8, 3.0)
    assert memory.match("a", task_id=8) == Correction("a", "the first", 7, 2.0), "another task's, not its own"
    assert memory.match("b") is None
    memory.put(2, Correction("b", "of another image now", 8, at=4.0))
    assert memory.match("a") == Correction("a", "the first", 7, 2.0)
    assert memory.match("b", near(features(1)[0], 0)) == Correction("b", "of another image now", 8, 4.0)
    for annotation in (1, 3, 3, 77):
        memory.drop(annotation)
    assert memory.match("a") is None
    assert len(memory) == 1


def test_a_near_duplicate_gets_the_correction_of_the_nearest_image(space: FeatureSpace) -> None:
    given = features(60)
    given[1] = given[0] + 0.3 * given[2]
    memory = filled(space, given)
    found = memory.match("new", near(given[0], 0.2))
    assert found == Correction("image 0", "caption 0", 100, 0)
    found = memory.match("new", near(given[0], 0.2), task_id=100)
    assert found == Correction("image 1", "caption 1", 101, 1), "near enough too"
    assert memory.match("new", near(given[0], 3)) is None
    assert memory.match("new") is None, "without a feature only the same content counts"
    memory.drop(0)
    memory.drop(1)
    assert memory.match("new", near(given[0], 0.2)) is None


def test_the_similarity_to_the_nearest_correction(space: FeatureSpace) -> None:
    given = features(40)
    memory = filled(space, given)
    assert memory.similarity(near(given[7], 0)) == pytest.approx(1, abs=1e-3)
    assert memory.similarity(near(given[7], 0), task_id=107) < 0.2, "its own task's does not count"
    assert memory.similarity(near(given[7], 0.2)) > memory.similarity(near(given[7], 0.8)) > 0.3
    assert np.isnan(memory.similarity(None))
    for empty in (CorrectionMemory(space), filled(None, given)):
        assert np.isnan(empty.similarity(near(given[0], 0)))


def test_similarity_is_that_of_the_definition(space: FeatureSpace) -> None:
    """On both sides of the threshold, by numbers computed here."""
    given = features(1)
    memory = filled(space, given)
    seen = set()
    for noise in np.linspace(0.2, 1.2, 40):
        other = near(given[0], float(noise))
        a, b = np.tanh(given[0].astype(float)), np.tanh(np.frombuffer(other, np.float16).astype(float))
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert (memory.match("new", other) is not None) == (cosine >= THRESHOLD), noise
        seen.add(cosine >= THRESHOLD)
    assert seen == {True, False}


def test_it_is_the_same_whatever_came_and_left_before(space: FeatureSpace) -> None:
    given, chance = features(40), np.random.default_rng(3)
    memory, there = CorrectionMemory(space), set[int]()
    for _ in range(400):
        number = int(chance.integers(40))
        if number in there:
            memory.drop(number)
            there.remove(number)
        else:
            memory.put(number, Correction(f"image {number}", f"caption {number}", 100 + number, at=number))
            assert memory.featureless(f"image {each}" for each in range(40)) == {f"image {number}"}
            memory.add_features({f"image {number}": given[number].tobytes(), "of nobody": given[0].tobytes()})
            there.add(number)
    for number in range(40):
        found = memory.match("new", near(given[number], 0.2))
        assert (found and found.caption) == (f"caption {number}" if number in there else None)
    assert 0 < len(there) < 40


def test_a_new_feature_is_no_dearer_the_more_there_are() -> None:
    """Told by memory: a set of all corrected images takes some, whatever the machine does."""
    space = FeatureSpace("small", np.zeros(64, np.float32), np.ones(64, np.float32))
    given = np.random.default_rng(0).normal(size=(5000, 64)).astype(np.float16)
    memory = filled(space, given)
    memory.put(9000, Correction("new", "a caption", 9000, at=1))
    new = {"new": given[0].tobytes()}
    tracemalloc.start()
    try:
        memory.add_features(new)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 50_000
    assert memory.featureless(["new"]) == set()


def test_features_that_come_later_are_taken_in(space: FeatureSpace) -> None:
    given = features(2)
    memory = CorrectionMemory(space)
    memory.put(1, Correction("a", "a caption", 7, at=1))
    assert memory.match("new", near(given[0], 0.2)) is None
    memory.add_features({"a": given[0].tobytes()})
    assert memory.match("new", near(given[0], 0.2))
    memory.add_features({"a": given[1].tobytes()})
    assert memory.match("new", near(given[0], 0.2)), "a feature stays"


def test_seen_images_that_may_be_near_duplicates_are_found(space: FeatureSpace) -> None:
    given, seen = features(60), SeenImages(space)
    assert seen.alike([given[0].tobytes()]) == set()
    for number in range(0, 60, 20):
        seen.add({f"image {each}": given[each].tobytes() for each in range(number, number + 20)})
    assert seen.alike([near(given[7], 0.2), near(given[33], 0.2)]) == {"image 7", "image 33"}
    assert seen.alike([near(given[7], 5)]) == set()
    for noise in np.linspace(0.2, 1.2, 40):  # what one finds, the other does not leave out
        other = near(given[7], float(noise))
        if filled(space, given).match("new", other):
            assert "image 7" in seen.alike([other]), noise


@pytest.mark.slow
def test_twenty_thousand_corrections_cost_less_than_ten_milliseconds_a_draft(space: FeatureSpace) -> None:
    given = np.resize(features(2000), (20_000, CHANNELS))
    given[:, :10] += np.arange(20_000)[:, None] / 20_000  # no two are alike
    memory = filled(space, given)
    times = []
    for number in range(0, 20_000, 1000):
        feature = near(given[number], 0.2)
        began = time.thread_time()  # the machine may be busy with something else
        assert memory.match("new", feature)
        times.append(time.thread_time() - began)
    assert sorted(times)[len(times) // 2] < 0.010
