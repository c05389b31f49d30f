"""What a reader sees of an HTML page, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class _Texts(HTMLParser):
    """The texts of a page, without its style and the numbers along the axes of its charts."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self._hidden = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self._hidden = tag == "style" or given.get("class") == "tick"
        self.tags.add(tag)
        self.addresses += [value for name, value in given.items() if value and name in {"src", "href", "xlink:href"}]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if data.strip() and not self._hidden:
            self.texts.append(" ".join(data.split()))


def parsed(page: str) -> _Texts:
    found = _Texts()
    found.feed(page)
    return found


def texts_of(page: str) -> list[str]:
    """The texts in order, white space as single blanks."""
    return parsed(page).texts


def digits_of(page: str) -> set[str]:
    """Every number in the texts, as written."""
    return {number for text in texts_of(page) for number in re.findall(r"\d+(?:\.\d+)?", text)}
