"""The captions in the result of an annotation, why its draft was wrong, and what was typed to have it completed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backend.domain.corrections import normalise
from labeling_config import FAULTS_TAG, HINT_TAG, Tags

LONGEST_NAME = 64
"""Characters kept of an action, an origin or a reason, which are short."""
LONGEST_HINT = 200
"""Characters of a hint."""


def captions(results: Any, tags: Tags) -> tuple[tuple[str, ...], str | None]:
    """The captions as typed, and the origin of the last one.

    Label Studio checks nothing in `result`, so entries that are no captions are ignored. If the config asks for one
    caption, the last non-empty text counts, because the editor appends a typed text after the draft. Of several the
    same one counts once, and an emptied one is deleted.
    """
    found: list[tuple[str, str | None]] = []
    for entry in _of_caption_box(results if isinstance(results, list) else [], tags):
        origin = entry.get("origin")
        found += [(text, origin[:LONGEST_NAME] if isinstance(origin, str) else None) for text in _texts(entry)]
    if not found:
        return (), None
    last, origin = found[-1]
    each: dict[str, str] = {}
    for text, _ in found:
        each.setdefault(normalise(text), text)
    return tuple(each.values()) if tags.several else (last,), origin


def reasons(results: Any) -> tuple[str, ...]:
    """Why the draft was wrong, as chosen under the name that the shipped config `review` has for it, each once.

    The words are those of the project's config, which may offer others. Choices that have another name, or are about a
    region, say nothing of the draft.
    """
    found: dict[str, None] = {}
    for entry in results if isinstance(results, list) else []:
        if not isinstance(entry, dict) or entry.get("type") != "choices" or entry.get("from_name") != FAULTS_TAG:
            continue
        value = entry.get("value")
        chosen = value.get("choices") if isinstance(value, dict) and not _of_region(entry) else None
        for choice in chosen if isinstance(chosen, list) else []:
            if isinstance(choice, str) and (text := normalise(choice)):
                found[text[:LONGEST_NAME]] = None
    return tuple(found)


def hints(results: Any, tags: Tags) -> tuple[str, ...]:
    """What was typed for a caption to be completed from, under the name that the shipped config `guided` has for it."""
    if tags.caption_tag == HINT_TAG:
        return ()
    entries = [entry for entry in results if isinstance(entry, dict)] if isinstance(results, list) else []
    return tuple(
        normalise(text)
        for entry in entries
        if entry.get("type") == "textarea" and entry.get("from_name") == HINT_TAG and not _of_region(entry)
        for text in _texts(entry)
    )


def _texts(entry: dict[str, Any]) -> list[str]:
    """The texts of an entry of a text box that say something."""
    value = entry.get("value")
    texts = value.get("text") if isinstance(value, dict) else None
    found = [texts] if isinstance(texts, str) else texts if isinstance(texts, list) else []
    return [text for text in found if isinstance(text, str) and normalise(text)]


def _of_caption_box(results: Sequence[Any], tags: Tags) -> list[dict[str, Any]]:
    """The entries of the caption box, or of the box that it was before somebody gave it another name.

    Label Studio keeps old results under the old name. They count where none stands under the present one: those of one
    name that the config no longer has, and as in the config itself of "caption" rather than of the first.
    """
    boxes: dict[str, list[dict[str, Any]]] = {}
    for entry in results:
        if isinstance(entry, dict) and entry.get("type") == "textarea" and isinstance(entry.get("from_name"), str):
            boxes.setdefault(entry["from_name"], []).append(entry)
    if tags.caption_tag in boxes:
        return boxes[tags.caption_tag]
    boxes.pop(HINT_TAG, None)  # no caption, even where the config has no box for hints any more
    old = [name for name, entries in boxes.items() if not tags.has(name) and not any(map(_of_region, entries))]
    name = next((name for name in old if name.lower() == "caption"), old[0] if old else "")
    return boxes.get(name, [])


def _of_region(entry: dict[str, Any]) -> bool:
    """Whether an entry describes a region of the image, whose coordinates then stand beside it."""
    return isinstance(entry.get("value"), dict) and "x" in entry["value"]
