"""The pages of docs/: each is in the site's list, and links lead somewhere. `make docs` builds the site itself."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


@cache
def prose(page: Path) -> str:
    """The page without its blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "`code`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M))


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as MkDocs and code hosts make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    heads = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", head.lower()).strip()) for head in heads}


def script(name: str) -> Any:
    """A module of docs/making/."""
    specification = importlib.util.spec_from_file_location(f"making_{name}", ROOT / "docs" / "making" / f"{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site() -> Any:
    """The hook that builds the site."""
    return script("site")


def entries(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for each in (nav.values() if isinstance(nav, dict) else nav) for page in entries(each)]


def test_every_page_is_in_the_list_of_the_site(site: Any) -> None:
    listed = entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(listed) == sorted([*(page.name for page in (ROOT / "docs").glob("*.md")), *site.PAGES.values()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_elsewhere_have_the_form_of_one(page: Path) -> None:
    """Whether somebody answers there is not checked, for tests need no network."""
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            address = urlsplit(target)
            assert address.scheme == "https", target
            assert "." in (address.hostname or ""), target


def test_links_to_the_rest_of_the_repository_are_those_of_the_site(site: Any) -> None:
    readme = "[a](docs/gate.md#the-rule) ![b](docs/draft.png) [c](CONTRIBUTING.md) [d](labeling_config/caption.xml)"
    assert site.linked(readme, "README.md") == (
        "[a](gate.md#the-rule) ![b](draft.png) [c](contributing.md) [d](caption.xml)"
    )
    page = "[a](../labeling_config/guided.xml) [b](../README.md#glossary) [c](#here) [d](https://example.com/x.md)"
    assert site.linked(page, "docs/drafts.md") == (
        "[a](guided.xml) [b](index.md#glossary) [c](#here) [d](https://example.com/x.md)"
    )


@pytest.mark.parametrize(
    ("tag", "refused"),
    [
        ('<script src="https://unpkg.com/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', True),
        ('<img alt="" src="http://example.com/x.png">', True),
        ('<script src="assets/x.js"></script><a href="https://example.com">x</a>', False),
    ],
)
def test_a_page_that_loads_something_from_elsewhere_ends_the_build(
    site: Any, tmp_path: Path, tag: str, refused: bool
) -> None:
    (tmp_path / "page.html").write_text(f"<html>{tag}</html>")
    config = type("Config", (), {"site_dir": str(tmp_path)})
    if refused:
        with pytest.raises(site.PluginError, match=r"page\.html loads something from elsewhere"):
            site.on_post_build(config)
    else:
        site.on_post_build(config)


def test_the_picture_of_the_loop_is_the_one_that_its_script_draws() -> None:
    loop = script("loop")
    assert loop.OUT.read_text() == loop.svg()
