from __future__ import annotations

from xml.etree import ElementTree

import pytest

import labeling_config
from labeling_config import LabelingConfigError, Tags, advice, parse, shipped


@pytest.mark.parametrize(
    ("name", "several"), [("caption", False), ("multi_caption", True), ("review", False), ("guided", False)]
)
def test_shipped_configs_have_a_caption_box_that_opens_with_the_draft(name: str, several: bool) -> None:
    assert parse(shipped(name)) == Tags("image", "caption", "image", several)
    assert advice(shipped(name)) == []


@pytest.mark.parametrize("name", ["caption", "multi_caption", "review", "guided"])
def test_headings_fit_an_empty_box_and_tab_leads_from_it_to_the_image(name: str) -> None:
    tags = list(ElementTree.fromstring(shipped(name)).iter())
    headings = " ".join(tag.get("value", "") for tag in tags if tag.tag == "Header")
    assert "correct the draft, or write one into an empty box" in headings
    assert "Ctrl+Enter submits" in headings
    taking_focus = [tag.tag for tag in tags if tag.tag in {"TextArea", "Image", "Choices"}]
    assert taking_focus[:2] == ["TextArea", "Image"], "Label Studio hears no Ctrl+Enter on a text box or a choice"


def test_the_review_asks_why_under_the_name_that_is_read_and_an_answer_is_optional() -> None:
    [choices] = [tag for tag in ElementTree.fromstring(shipped("review")).iter() if tag.tag == "Choices"]
    assert choices.attrib == {"name": labeling_config.FAULTS_TAG, "toName": "image", "choice": "multiple"}
    assert [each.get("value") for each in choices] == ["object", "attribute", "count", "relation", "wording"]


def test_the_box_for_hints_has_the_name_that_is_read_and_only_it_asks_the_backend() -> None:
    caption, hint = [tag for tag in ElementTree.fromstring(shipped("guided")).iter() if tag.tag == "TextArea"]
    assert (caption.get("name"), caption.get("smart")) == ("caption", "false")
    assert (hint.get("name"), hint.get("smart"), hint.get("required")) == (labeling_config.HINT_TAG, None, None)


def test_the_box_for_hints_is_no_caption_box_where_there_is_another() -> None:
    hint, other = (f'<TextArea name="{name}" toName="i"/>' for name in ("hint", "words"))
    image = '<Image name="i" value="$a"/>'
    found = [parse(f"<View>{image}{boxes}</View>") for boxes in (hint + other, other, hint)]
    assert [tags.caption_tag for tags in found] == ["words", "words", "hint"]
    assert [tags.takes_hints for tags in found] == [True, False, False]


def test_every_shipped_config_is_tested() -> None:
    assert set(labeling_config.NAMES) == {"caption", "multi_caption", "review", "guided"}


def test_a_config_that_is_not_shipped_is_named_in_the_error() -> None:
    with pytest.raises(LabelingConfigError, match=r"'captions'.*caption, multi_caption, review, guided"):
        shipped("captions")


@pytest.mark.parametrize(
    ("xml", "tags"),
    [
        (
            '<View><Image name="pic" value="$photo"/><TextArea name="words" toName="pic"/></View>',
            Tags("pic", "words", "photo", False),
        ),
        (  # one named caption wins, though it is not the first
            '<View><Image name="i" value="$a"/><TextArea name="notes" toName="i"/>'
            '<TextArea name="Caption" toName="i"/></View>',
            Tags("i", "Caption", "a", False),
        ),
        (  # the first one otherwise
            '<View><Image name="i" value="$a"/><TextArea name="x" toName="i"/><TextArea name="y" toName="i"/></View>',
            Tags("i", "x", "a", False),
        ),
        (  # boxes for a text, or for single regions, are not captions
            '<View><Text name="t" value="$text"/><Image name="i" value="$a"/><TextArea name="caption" toName="t"/>'
            '<TextArea name="region" toName="i" perRegion="true"/><TextArea name="whole" toName="i"/></View>',
            Tags("i", "whole", "a", False),
        ),
        (  # which of two images is captioned; in any case, nested, several targets
            '<View><Image name="one" value="$first"/><View><image name="two" value="$second"/></View>'
            '<View><textarea name="w" toName="nothing, two" maxSubmissions="4"/></View></View>',
            Tags("two", "w", "second", True),
        ),
        (
            '<View><Image name="i" value="$a"/><TextArea name="c" toName="i" maxSubmissions="1"/></View>',
            Tags("i", "c", "a", False),
        ),
        (
            '<?xml version="1.0"?><View><!-- a comment --><Image name="bild" value="$größe"/>'
            '<TextArea name="c" toName="bild"/></View>',
            Tags("bild", "c", "größe", False),
        ),
    ],
)
def test_any_names_are_read(xml: str, tags: Tags) -> None:
    assert parse(xml) == tags


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        ("<View></View>", "has no <Image>"),
        ('<View><Text name="t" value="$t"/><TextArea name="c" toName="t"/></View>', "has no <Image>"),
        ('<View><Image name="pic" value="$p"/></View>', 'no <TextArea> for its <Image>.*toName="pic"'),
        ('<View><Image name="pic" value="$p"/><TextArea name="c" toName="picture"/></View>', "no <TextArea>"),
        ('<View><Image name="pic" value="http://x/1.png"/><TextArea name="c" toName="pic"/></View>', "'pic'.*no field"),
        ("<View>", "not valid XML"),
        ("", "not valid XML"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "DOCTYPE or an entity"),
    ],
)
def test_a_config_without_a_caption_box_is_refused_in_one_sentence(xml: str, sentence: str) -> None:
    with pytest.raises(LabelingConfigError, match=sentence) as caught:
        parse(xml)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ('maxSubmissions="1" transcription="true"', "not editable"),
        ('editable="true" transcription="true"', "second text"),
        ('editable="true" maxSubmissions="1"', "with a pencil"),
        ('editable="true" maxSubmissions="5"', "with a pencil"),
    ],
)
def test_advice_says_what_hides_the_draft(attributes: str, sentence: str) -> None:
    xml = f'<View><Image name="i" value="$a"/><TextArea name="c" toName="i" {attributes}/></View>'
    (advised,) = advice(xml)
    assert sentence in advised


@pytest.mark.parametrize(("given", "several"), [("²", False), ("9" * 5000, False), ("5", True), ("x", False)])
def test_any_number_of_submissions_can_be_read(given: str, several: bool) -> None:
    box = f'<TextArea name="c" toName="i" maxSubmissions="{given}"/>'
    assert parse(f'<View><Image name="i" value="$a"/>{box}</View>').several is several


DATA = {
    "image": "/a.jpg",
    "photo": {"url": "/b.jpg", "sizes": [{"big": "/c.jpg"}]},
    "pages": [{"page": "/d.jpg"}, "/e.jpg"],
    "photo.flat": "/f.jpg",
    "größe": "/g.jpg",
}


@pytest.mark.parametrize(
    ("value", "image"),
    [
        ("$image", "/a.jpg"),
        ("$photo.url", "/b.jpg"),
        ("$photo[url]", "/b.jpg"),
        ("$pages[0].page", "/d.jpg"),
        ("$pages.0.page", "/d.jpg"),
        ("$pages[1]", "/e.jpg"),
        ("$photo.flat", "/f.jpg"),  # a key that looks like a path is a key
        ("$größe", "/g.jpg"),
        ("$photo.sizes[0].big", "/c.jpg"),
        ("$pages[2].page", None),
        ("$pages[-1]", None),
        ("$pages[x].page", None),
        ("$photo", None),
        ("$photo.url.more", None),
        ("$nothing.url", None),
    ],
)
def test_the_image_is_read_from_where_label_studio_reads_it(value: str, image: str | None) -> None:
    tags = parse(f'<View><Image name="i" value="{value}"/><TextArea name="c" toName="i"/></View>')
    assert tags.image(DATA) == image


@pytest.mark.parametrize("data", [None, [], "text", {"image": None}, {"image": " "}, {"image": 3}, {}])
def test_a_task_may_have_no_image(data: object) -> None:
    assert Tags("image", "caption", "image", False).image(data) is None


@pytest.mark.parametrize(
    "xml",
    [
        '<View><Repeater on="$pages"><Image name="p_{{idx}}" value="$pages[{{idx}}].page"/>'
        '<TextArea name="c_{{idx}}" toName="p_{{idx}}"/></Repeater></View>',
        '<View><Repeater on="$pages" indexFlag="NR"><Image name="p_NR" value="$pages[NR].page"/>'
        '<TextArea name="c_NR" toName="p_NR"/></Repeater></View>',
        '<View><Image name="p" value="$pages[{{idx}}].page"/><TextArea name="c" toName="p"/></View>',
        '<View><Image name="p" value="$image"/><Repeater on="$x"><TextArea name="c_{{idx}}" toName="p"/></Repeater>'
        "</View>",
    ],
)
def test_what_is_repeated_is_refused(xml: str) -> None:
    with pytest.raises(LabelingConfigError, match=r"repeats.*one image and one caption box a task"):
        parse(xml)


def test_beside_what_is_repeated_a_caption_box_is_found() -> None:
    repeated = '<Repeater on="$x"><Image name="p_{{idx}}" value="$x[{{idx}}]"/></Repeater>'
    xml = f'<View>{repeated}<Image name="i" value="$a"/><TextArea name="c" toName="i"/></View>'
    assert parse(xml) == Tags("i", "c", "a", False)
