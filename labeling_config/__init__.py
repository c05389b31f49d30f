"""The shipped labelling configs, and how to read the tag names of any other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from xml.etree import ElementTree

NAMES = ("caption", "multi_caption", "review", "guided")
"""The shipped configs: one caption, several captions per image, one caption and why the draft was wrong, one caption
that is completed from a hint."""

FAULTS_TAG = "fault"
"""The name of the `<Choices>` that say why a draft was wrong; choices of other names are not read."""

HINT_TAG = "hint"
"""The name of the `<TextArea>` for what a caption is completed from: how it begins, or words that it has."""

FLAG = "{{idx}}"
"""Stands for the number of an item in what a `<Repeater>` repeats, unless its `indexFlag` names another text."""


class LabelingConfigError(Exception):
    """A labelling config has no caption box for an image. The message is one sentence that says how to fix it."""


@dataclass(frozen=True)
class Tags:
    """Names in a labelling config: the `<Image>`, the `<TextArea>` for its caption, and the key of the image in a
    task's data, or the path to it such as `pages[0].url`. `several` means that the box takes several captions, each a
    reference of the image. `names` are patterns of all names in the config."""

    image_tag: str
    caption_tag: str
    data_key: str
    several: bool
    names: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def image(self, data: object) -> str | None:
        """The reference of the image in a task's data; None where it has none. As in Label Studio's editor, a key that
        looks like a path is a key."""
        found = data
        whole = isinstance(data, dict) and self.data_key in data
        for key in [self.data_key] if whole else re.findall(r"[^.\[\]]+", self.data_key):
            if isinstance(found, list) and re.fullmatch("[0-9]{1,9}", key):
                found = found[int(key)] if int(key) < len(found) else None
            else:
                found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, str) and found.strip() else None

    @property
    def takes_hints(self) -> bool:
        """Whether there is a box for hints beside that for captions."""
        return self.has(HINT_TAG) and self.caption_tag != HINT_TAG

    def has(self, name: str) -> bool:
        """Whether a tag of the config has this name."""
        return any(re.fullmatch(pattern, name) for pattern in self.names)


def shipped(name: str) -> str:
    """The XML of the shipped config `name`. Raises LabelingConfigError when there is none."""
    if name not in NAMES:
        raise LabelingConfigError(f"There is no labelling config {name!r}; the shipped ones are {', '.join(NAMES)}.")
    return resources.files(__name__).joinpath(f"{name}.xml").read_text(encoding="utf-8")


def parse(xml: str) -> Tags:
    """Find the caption box: the `<TextArea>` named "caption" that points at an `<Image>`, else the first that does.

    That for hints is one only where there is no other. Case does not matter in tag names, as in Label Studio's editor.
    Boxes for single regions do not count, and neither does what is repeated for each item of a list. Raises
    LabelingConfigError when the config is not XML or has no such pair.
    """
    root = _read(xml)
    repeated = {tag for repeater in _repeaters(root) for tag in repeater.iter()}
    repeated |= {tag for tag in root.iter() if any("{{" in tag.get(name, "") for name in ("name", "toName", "value"))}
    tags = [tag for tag in root.iter() if tag not in repeated]
    images = {name: _key(tag) for tag in tags if _kind(tag) == "image" and (name := tag.get("name"))}
    pairs = [
        (box, image)
        for box in tags
        if _kind(box) == "textarea" and box.get("name") and not _true(box, "perRegion")
        for image in (name.strip() for name in box.get("toName", "").split(","))
        if image in images
    ]
    if not pairs and any(_kind(tag) in {"image", "textarea"} for tag in repeated):
        raise LabelingConfigError(
            "The labelling config repeats its <Image> or <TextArea> for each item of a list (<Repeater>, {{idx}}); "
            "drafts need one image and one caption box a task."
        )
    if not images:
        raise LabelingConfigError('The labelling config has no <Image>; add <Image name="image" value="$image"/>.')
    if not pairs:
        named = " or ".join(sorted(images))
        raise LabelingConfigError(
            f"The labelling config has no <TextArea> for its <Image>; add "
            f'<TextArea name="caption" toName="{named}" editable="true" maxSubmissions="1" transcription="true"/>.'
        )
    pairs.sort(key=lambda pair: pair[0].get("name") == HINT_TAG)
    box, image = next((pair for pair in pairs if pair[0].get("name", "").lower() == "caption"), pairs[0])
    data_key = images[image]
    if not data_key:
        raise LabelingConfigError(
            f"The <Image> named {image!r} shows no field of the task; give it a value such as $image."
        )
    return Tags(image, box.get("name", ""), data_key, _submissions(box) > 1, frozenset(_names(root)))


def advice(xml: str) -> list[str]:
    """Sentences on what keeps drafts from opening as editable text; none for a good config.

    Raises LabelingConfigError as `parse` does.
    """
    tags = parse(xml)
    box = next(t for t in _read(xml).iter() if _kind(t) == "textarea" and t.get("name") == tags.caption_tag)
    sentences = []
    if not _true(box, "editable"):
        sentences.append(
            f'The box {tags.caption_tag!r} is not editable: a draft can only be deleted; add editable="true".'
        )
    if _submissions(box) == 0:
        sentences.append(
            f"The box {tags.caption_tag!r} accepts a second text beside the draft, and only the last one counts; "
            f'add maxSubmissions="1" (or "5" to collect several captions).'
        )
    if not _true(box, "transcription"):
        sentences.append(
            f"The box {tags.caption_tag!r} shows the draft as text with a pencil; "
            f'add transcription="true" to open it in the text box.'
        )
    return sentences


def _names(root: ElementTree.Element) -> Iterator[str]:
    """Patterns of the names of all tags. Those in a `<Repeater>` are there once for each number."""
    flags = {tag: repeater.get("indexFlag") or FLAG for repeater in _repeaters(root) for tag in repeater.iter()}
    for tag in root.iter():
        if name := tag.get("name"):
            yield r"\d+".join(map(re.escape, name.split(flags[tag]))) if tag in flags else re.escape(name)


def _repeaters(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [tag for tag in root.iter() if _kind(tag) == "repeater"]


def _read(xml: str) -> ElementTree.Element:
    if re.search(r"<!(DOCTYPE|ENTITY)", xml, re.IGNORECASE):  # against entity bombs; real configs have none
        raise LabelingConfigError("The labelling config holds a DOCTYPE or an entity; remove it.")
    try:
        return ElementTree.fromstring(xml)  # noqa: S314 - without entities, and expat fetches nothing
    except (ElementTree.ParseError, ValueError) as error:
        raise LabelingConfigError(f"The labelling config is not valid XML: {error}.") from error


def _kind(tag: ElementTree.Element) -> str:
    return tag.tag.lower() if isinstance(tag.tag, str) else ""


def _key(image: ElementTree.Element) -> str:
    value = image.get("value", "").strip()
    return value.lstrip("$") if value.startswith("$") else ""


def _true(tag: ElementTree.Element, attribute: str) -> bool:
    return tag.get(attribute, "false").strip().lower() == "true"


def _submissions(box: ElementTree.Element) -> int:
    text = box.get("maxSubmissions", "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0
