"""Captions in many languages: what their words are, and that a captioner's words make the same caption again."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.domain.corrections import normalise
from training.captioner import bundled
from training.captioner.captioner import Captioner
from training.config import DecodingConfig, TrainingConfig
from training.data.manifest import Row
from training.decoding.beam_search import Candidate
from training.decoding.hints import Hint
from training.features.batches import _key
from training.learning.train import _initial
from training.metrics import bleu, cider_d, word_edits
from training.metrics.alignment import word_changes
from training.vocabulary import MARKS, Style, Vocabulary, has_characters, tokenize, tokenizer_of

WORDS = "captioner-1"
CHARACTERS = "captioner-1+characters"
JOINERS = "captioner-1+joiners"

LANGUAGES = {
    "English": ("A dog's well-worn ball: red, round.", WORDS, "a dog's well-worn ball red round"),
    "French": ("Une fille à l'œil bleu, près d'un chêne.", WORDS, "une fille à l'œil bleu près d'un chêne"),
    "Vietnamese": ("Một con chó đang chạy trên bãi cỏ.", WORDS, "một con chó đang chạy trên bãi cỏ"),
    "Turkish": ("Çimlerde koşan küçük köpek.", WORDS, "çimlerde koşan küçük köpek"),
    "Catalan": ("Una paret il·lustrada, paral·lela al carrer.", JOINERS, "una paret il·lustrada paral·lela al carrer"),
    "Russian": ("Две собаки бегут по снегу, ещё одна спит.", WORDS, "две собаки бегут по снегу ещё одна спит"),
    "Hindi": ("दो बच्चे मैदान में खेल रहे हैं।", WORDS, "दो बच्चे मैदान में खेल रहे हैं"),
    "Sinhala": ("ශ්‍රී ලංකාවේ වෙරළක්", JOINERS, "ශ්‍රී ලංකාවේ වෙරළක්"),
    "Korean": ("개 두 마리가 눈 위를 달린다.", WORDS, "개 두 마리가 눈 위를 달린다"),
    "Arabic": ("كَلْبٌ يركض على العشب، وقطة نائمة.", WORDS, "كَلْبٌ يركض على العشب وقطة نائمة"),
    "Persian": ("سگی می‌دود و گربه‌ای می‌خوابد.", JOINERS, "سگی می‌دود و گربه‌ای می‌خوابد"),
    "Hebrew": ("כלב רץ על הדשא ליד צה״ל.", JOINERS, "כלב רץ על הדשא ליד צה״ל"),
    "Chinese": ("一只狗在草地上奔跑，2个孩子在看。", CHARACTERS, "一 只 狗 在 草 地 上 奔 跑 2 个 孩 子 在 看"),
    "Japanese": (
        "赤いシャツの女性がスマホを見ている。",
        CHARACTERS,
        "赤 い シ ャ ツ の 女 性 が ス マ ホ を 見 て い る",
    ),
    "Thai": ("ผู้หญิงสวมเสื้อแดงกำลังวิ่ง", CHARACTERS, "ผู้ ห ญิ ง ส ว ม เ สื้ อ แ ด ง กำ ลั ง วิ่ ง"),
    "Khmer": ("ស្ត្រីម្នាក់រត់", CHARACTERS, "ស្ត្រី ម្នា ក់ រ ត់"),
    "Burmese": ("ခွေးတစ်ကောင် ပြေးနေသည်", CHARACTERS, "ခွေး တ စ် ကော င် ပြေး နေ သ ည်"),
}
"""A caption, the rules that its words show, and its words."""

of_each = pytest.mark.parametrize(("caption", "rules", "words"), LANGUAGES.values(), ids=LANGUAGES)


@of_each
def test_the_words_of_a_caption_and_the_rules_that_made_them(caption: str, rules: str, words: str) -> None:
    assert tokenize(caption) == words.split()
    assert tokenize(unicodedata.normalize("NFD", caption)) == words.split()
    assert tokenizer_of(tokenize(caption)) == rules


@of_each
def test_what_was_typed_is_what_is_kept(caption: str, rules: str, words: str) -> None:
    assert normalise(unicodedata.normalize("NFD", caption)) == unicodedata.normalize("NFC", caption)


@of_each
def test_a_captioner_that_says_these_words_says_the_caption(caption: str, rules: str, words: str) -> None:
    style = Style.of([caption])
    vocabulary = Vocabulary.build([caption]).extended((), marks=style.marks)
    said = style.apply(vocabulary.decode(vocabulary.encode(caption)))
    dotted = {"Burmese": "ခွေးတစ်ကောင်ပြေးနေသည်"}  # a blank between phrases is not learned
    assert said == dotted.get(next(name for name, each in LANGUAGES.items() if each[0] == caption), normalise(caption))
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary
    assert vocabulary.to_json()["tokenizer"] == rules


@of_each
def test_scores_say_which_rules_made_the_words(caption: str, rules: str, words: str) -> None:
    for score in (bleu([caption], [[caption]]), cider_d([caption, "x"], [[caption], ["y"]])):
        assert score.signature.endswith(f"|tok:{rules}")
    assert bleu([caption], [[caption, "another"]], n=1).value == pytest.approx(100)


def test_a_changed_character_is_one_edit_where_words_are_characters() -> None:
    assert word_edits("一只狗在草地上", "一只猫在草地上") == 1
    assert word_changes(["一只狗在草地上"], ["两只小狗在草地上"]).tolist() == [[1, 0, 1, 6]]
    assert word_edits("เสื้อแดง", "เสื้อดำ") == 3
    assert bleu(["一只狗"], [["一只猫"]], n=1).value == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("手机iPhone手机", ["手", "机", "iphone", "手", "机"]),
        ("超-大 '猫'", ["超", "大", "猫"]),
        ("👨‍👩‍👧 family ❤️", ["family", "\ufe0f"]),
        ("a · b‌ ‌c", ["a", "b", "c"]),
        ("葛\U000e0101飾", ["葛\U000e0101", "飾"]),
        ("ﾊﾞｽ", ["ﾊ", "ﾞ", "ｽ"]),
    ],
)
def test_characters_and_joiners_among_other_things(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        ("2人の男性が iPhone を見ている", "2人の男性が iphone を見ている"),
        ("ผู้ชาย 2 คนใช้ iPhone", "ผู้ชาย 2 คนใช้ iphone"),
        ("一只狗、一只猫；它们在睡。天黑了。", "一只狗、一只猫；它们在睡。天黑了"),
        ("a sign that says 出口 in red", "a sign that says 出口 in red"),
        ("قطة، كلب؛ بيت", "قطة، كلب؛ بيت"),
    ],
)
def test_words_of_several_scripts_are_joined_as_their_scripts_are(caption: str, said: str) -> None:
    vocabulary = Vocabulary.build([caption]).extended((), marks=Style.of([caption]).marks)
    assert vocabulary.decode(vocabulary.encode(caption)) == said


def test_a_hint_without_blanks_is_completed_without_blanks() -> None:
    vocabulary, style = Vocabulary.build(["一只狗在红色巴士里"]), Style(full_stop=True)
    hint = Hint.parse("一只… 红色巴士，猫。")
    assert hint == Hint("一只", ("红色巴士", "猫"))
    dog, inside = vocabulary.encode("狗在")[1:3]
    assert hint.caption((dog, inside, 3, 3, 3, 3), {2: 0}, vocabulary, style) == "一只狗在红色巴士。"


def test_the_words_of_the_starter_are_what_they_were() -> None:
    vocabulary = Vocabulary.from_json(json.loads((bundled.STARTER / "vocabulary.json").read_text()))
    words = [word for word in vocabulary.words[4:] if word not in MARKS]
    assert tokenize(" ".join(words)) == words
    assert vocabulary.to_json()["tokenizer"] == WORDS
    for caption in (" ".join(words[n : n + 12]) for n in range(0, len(words), 12)):
        assert vocabulary.decode(vocabulary.encode(caption)) == caption


@pytest.mark.parametrize(
    "text",
    ["一只狗在左边", "ทางซ้ายของรูป", "كلب على يسار الصورة", "משמאל לעץ", "Слева стоит собака", "a dog on the left"],
)
def test_a_caption_that_says_left_or_right_is_wrong_for_the_mirror_image(text: str) -> None:
    row = Row(Path(), "0" * 64, ("A dog.", text))
    assert {_key(row, np.random.default_rng(seed)) for seed in range(20)} == {row.sha256}
    assert len({_key(replace(row, references=("一只狗",)), np.random.default_rng(seed)) for seed in range(20)}) == 2


@pytest.mark.parametrize("name", ["Chinese", "Japanese", "Thai", "Arabic", "Persian", "Hindi"])
def test_a_captioner_writes_its_caption_as_people_write_it(
    tiny: Captioner, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    caption = LANGUAGES[name][0]
    captioner = _initial([caption] * 3, TrainingConfig.starter(), tiny)
    tokens = tuple(captioner.vocabulary.encode(caption)[1:-1])
    found = Candidate(tokens, mean_log_probability=-1.0)
    monkeypatch.setattr(
        "training.captioner.captioner.beam_search", lambda decoder, grid, *_, **__: [[found]] * len(grid)
    )
    pixels = np.zeros((captioner.side, captioner.side, 3), dtype=np.uint8)
    assert [each.text for each in captioner.caption_pixels([pixels])] == [caption]
    assert captioner.decoding.max_length >= len(tokens) or not has_characters(caption)


def test_a_checkpoint_of_an_older_release_with_phrases_for_words_still_says_them() -> None:
    words = {"tokenizer": WORDS, "words": ["<pad>", "<start>", "<end>", "<unk>", "一只狗", "在草地上"]}
    assert Vocabulary.from_json(words).decode([1, 4, 5, 2]) == "一只狗在草地上"


def test_captions_in_characters_have_room_and_others_have_what_was_configured(tiny: Captioner) -> None:
    long = "一个穿着红色衬衫的女人站在一面挂满旗帜的墙前面微笑着看着镜头"
    config = TrainingConfig.starter(decoding=DecodingConfig(max_length=5))
    assert _initial([long] * 3, config, tiny).decoding.max_length == len(long)
    assert _initial(["a dog runs over the grass and barks"], config, tiny).decoding == tiny.decoding
    assert tiny.decoding.max_length < len(long)
    quoting = f"a sign on the wall says 出口 in {'very ' * tiny.decoding.max_length}large letters"
    assert _initial([quoting], config, tiny).decoding == tiny.decoding
