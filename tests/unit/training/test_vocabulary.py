import json

import pytest

from training.errors import DataError
from training.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Style, Vocabulary, tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A dog runs .", ["a", "dog", "runs"]),
        ("The dog's ball -- a well-worn one!", ["the", "dog's", "ball", "a", "well-worn", "one"]),
        ("'quoted' rock-'n'-roll -", ["quoted", "rock-'n'-roll"]),
        ("It’s twenty‑one", ["it's", "twenty-one"]),
        ("ÜBER cafe\u0301 3 Hunde", ["über", "café", "3", "hunde"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("snake_case,comma", ["snake", "case", "comma"]),
        ("<start> <pad>", ["start", "pad"]),
        (" .,!? '- ", []),
    ],
)
def test_tokenize(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


def test_specials_have_fixed_ids() -> None:
    words = Vocabulary.build(["a dog"]).words
    assert (words[PAD], words[START], words[END], words[UNKNOWN]) == ("<pad>", "<start>", "<end>", "<unk>")


def test_build_orders_by_frequency_then_alphabet() -> None:
    vocabulary = Vocabulary.build(["b a c", "c b", "c"])
    assert vocabulary.words[4:] == ("c", "b", "a")
    assert Vocabulary.build(["b a", "a"], min_count=2).words[4:] == ("a",)
    assert len(Vocabulary.build(["a b c d"], max_size=6)) == 6


def test_encode_decode_round_trip_and_unknown_words() -> None:
    vocabulary = Vocabulary.build(["A dog runs."])
    ids = vocabulary.encode("The dog runs!")
    assert (ids[0], ids[1], ids[-1]) == (START, UNKNOWN, END)
    assert vocabulary.decode(ids) == "dog runs"
    assert vocabulary.decode([START, *ids[2:4], END, ids[2], PAD]) == "dog runs"


def test_extended_keeps_every_old_id() -> None:
    old = Vocabulary.build(["a dog runs"])
    new = old.extended(["a zebra runs", "a zebra", "an ant"], min_count=2)
    assert new.words[: len(old)] == old.words
    assert new.words[len(old) :] == ("zebra",)
    assert "zebra" in new
    assert "zebra" not in old


def test_json_round_trip_through_text() -> None:
    vocabulary = Vocabulary.build(["ein Hündchen läuft"])
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"tokenizer": "captioner-1", "words": ["a"]},
        {"tokenizer": "captioner-1", "words": [*SPECIALS, 5]},
        {"tokenizer": "captioner-1", "words": [*SPECIALS, "a", "a"]},
        {"tokenizer": "another", "words": [*SPECIALS]},
    ],
)
def test_from_json_refuses_what_is_no_vocabulary(value: object) -> None:
    with pytest.raises(DataError):
        Vocabulary.from_json(value)


@pytest.mark.parametrize(
    ("captions", "style"),
    [
        (["A dog.", "A cat .", "a bird"], Style(capitalise=True, full_stop=True)),
        (["a dog", "a cat", "A bird."], Style(capitalise=False, full_stop=False)),
        (["A dog", "A cat"], Style(capitalise=True, full_stop=False)),
        (["日本。", "猫。"], Style(capitalise=False, full_stop=True)),
        (["Photo: a dog, running", "Photo: a cat", "Photo: a bird at 10:30."], Style(True, False, ",:")),
        (["a dog, running", *["a dog"] * 5], Style()),
        (["A dog runs. The sky is blue."] * 2, Style(True, True, ".")),
        ([], Style()),
        (["", "  "], Style()),
    ],
)
def test_style_follows_the_majority(captions: list[str], style: Style) -> None:
    assert Style.of(captions) == style


def test_style_is_applied_once() -> None:
    style = Style(capitalise=True, full_stop=True)
    assert style.apply("a dog runs") == "A dog runs."
    assert style.apply(style.apply("a dog runs")) == "A dog runs."
    assert style.apply("what a dog!") == "What a dog!"
    assert style.apply("") == ""
    assert style.apply("a dog runs. the sky is blue") == "A dog runs. The sky is blue."
    assert Style().apply("a dog runs") == "a dog runs"


def test_marks_inside_a_caption_are_kept_where_the_vocabulary_has_them() -> None:
    vocabulary = Vocabulary.build(["photo two dogs running at 10:30"]).extended((), marks=",:")
    text = "Photo: two dogs , running at 10:30; dogs."
    assert vocabulary.decode(vocabulary.encode(text)) == "photo: two dogs, running at 10 30 dogs"
    assert UNKNOWN not in vocabulary.encode(text)
    assert vocabulary.decode(vocabulary.encode(", dogs,")) == "dogs"
    plain = Vocabulary.build(["photo two dogs running at 10:30"])
    assert plain.decode(plain.encode(text)) == "photo two dogs running at 10 30 dogs"
