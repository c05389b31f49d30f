import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from training.captioner.captioner import Captioner
from training.config import DecodingConfig
from training.decoding.beam_search import Hypothesis
from training.decoding.reuse import Correction
from training.errors import DataError
from training.vocabulary import Vocabulary, tokenize


def test_one_answer_an_image_and_errors_in_place(tiny: Captioner, picture: Callable[..., Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not an image")
    red, error, blue, absent = tiny.caption([picture("red"), broken, picture("blue"), tmp_path / "absent.jpg"])
    assert isinstance(red, Hypothesis)
    assert isinstance(blue, Hypothesis)
    assert isinstance(error, DataError)
    assert "broken.jpg" in str(error)
    assert isinstance(absent, DataError)


def test_nothing_readable_and_nothing_asked(tiny: Captioner, tmp_path: Path) -> None:
    assert isinstance(tiny.caption([tmp_path / "absent.jpg"])[0], DataError)
    assert tiny.caption([]) == []


def test_more_images_than_one_batch(tiny: Captioner, picture: Callable[..., Path]) -> None:
    paths = [picture("red"), picture("blue")] * 20
    found = tiny.caption(paths)
    assert len(found) == 40
    texts = [item.text for item in found if isinstance(item, Hypothesis)]
    assert texts == texts[:2] * 20


def test_reading_and_captioning_are_two_steps_of_the_same(
    tiny: Captioner, picture: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [picture("red"), picture("blue"), picture("green")]
    pixels = [tiny.read(path) for path in paths]
    assert {each.shape for each in pixels} == {(tiny.side, tiny.side, 3)}
    found = tiny.caption_pixels(pixels)
    assert found == tiny.caption(paths)
    assert all(each.feature for each in found)
    assert tiny.caption_pixels([]) == []
    with pytest.raises(DataError, match=r"absent\.jpg"):
        tiny.read(tmp_path / "absent.jpg")


def test_captions_follow_the_style_and_the_vocabulary(tiny: Captioner, picture: Callable[..., Path]) -> None:
    found = tiny.caption([picture("green")])[0]
    assert isinstance(found, Hypothesis)
    assert found.text[0].isupper()
    assert found.text.endswith(".")
    assert set(tokenize(found.text)) <= set(tiny.vocabulary.words)
    assert 0 < found.score <= 1
    assert 1 <= len(found.tokens) <= tiny.decoding.max_length


def test_asked_decoding_replaces_its_own(tiny: Captioner, picture: Callable[..., Path]) -> None:
    found = tiny.caption([picture("green")], DecodingConfig(beam=1, max_length=1))[0]
    assert isinstance(found, Hypothesis)
    assert len(found.tokens) == 1


def test_a_frozen_encoder_gives_the_feature_of_each_image(
    tiny: Captioner, picture: Callable[..., Path], tmp_path: Path
) -> None:
    assert tiny.feature_space
    red, blue, again = tiny.caption([picture("red"), picture("blue"), picture("red", "again.png")])
    assert isinstance(red, Hypothesis)
    assert isinstance(blue, Hypothesis)
    assert isinstance(again, Hypothesis)
    assert red.feature == again.feature != blue.feature
    assert len(red.feature or b"") == 2 * tiny.encoder.channels == 2 * len(tiny.feature_space.mean)
    encoder = dataclasses.replace(tiny.encoder.config, trained="all")
    parts = tiny.decoder.config, tiny.transform, tiny.decoding, tiny.vocabulary, tiny.style
    trained = Captioner(encoder, *parts)
    [found] = trained.caption([picture("red")])
    assert isinstance(found, Hypothesis)
    assert (found.feature, trained.feature_space) == (None, None), "it would change with each version"


def test_corrections_join_what_reranks_the_beam(tiny: Captioner, picture: Callable[..., Path]) -> None:
    given = [Correction(f"{number:02x}" * 32, text, 1, at=0) for number, text in enumerate(["a red picture", "..."])]
    features = np.zeros((2, tiny.encoder.channels), np.float16)
    assert tiny.retrieval_with(given, features) is None, "its decoding has no neighbours"
    tiny.decoding = dataclasses.replace(tiny.decoding, neighbours=1)
    first = tiny.retrieval_with(given, features)
    assert first is not None
    assert len(first) == 1, "a text without words is left out"
    tiny.retrieval = first
    other = [Correction("ab" * 32, "a blue picture", 1, at=0)]
    assert len(tiny.retrieval_with(other, features[:1]) or ()) == 2
    assert len(tiny.retrieval_with(given, features) or ()) == 1, "in place of what it knew of the image"
    assert tiny.retrieval_with([], features[:0]) is first


def test_captioning_leaves_training_mode(tiny: Captioner, picture: Callable[..., Path]) -> None:
    tiny.decoder.decoders[0].dropout.p = 0.9
    tiny.train()
    path = picture("green")
    assert tiny.caption([path]) == tiny.caption([path])


def test_new_words_can_be_said(tiny: Captioner, picture: Callable[..., Path]) -> None:
    tiny.extend_vocabulary(tiny.vocabulary.extended(["zebra"]))
    assert isinstance(tiny.vocabulary, Vocabulary)
    with torch.no_grad():
        tiny.decoder.decoders[0].bias[-1] = 100.0
    found = tiny.caption([picture("red")])[0]
    assert isinstance(found, Hypothesis)
    assert "zebra" in found.text.lower()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_on_cuda_as_on_cpu(tiny: Captioner, picture: Callable[..., Path]) -> None:
    paths = [picture("red"), picture("blue")]
    here = tiny.caption(paths)
    there = tiny.cuda().caption(paths)
    assert [item.tokens for item in here if isinstance(item, Hypothesis)] == [
        item.tokens for item in there if isinstance(item, Hypothesis)
    ]
