"""A hook of MkDocs: pages that stand elsewhere in the repository, and a site that loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "training/captioner/starter/MODEL_CARD.md": "starter.md",
}
"""Files of the repository outside docs/ that are pages of the site."""
FILES = {
    "LICENSE": "LICENSE.txt",
    "docker-compose.yml": "docker-compose.yml",
    **{f"labeling_config/{path.name}": path.name for path in sorted((ROOT / "labeling_config").glob("*.xml"))},
}
"""Files of the repository that pages link to."""

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
LOADED = re.compile(r"<(?:script|img|iframe|source|video|link)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>", re.I)


def on_files(files: Any, config: Any) -> Any:
    for source, place in (PAGES | FILES).items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    sources = {place: source for source, place in PAGES.items()}
    return linked(markdown, sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))


def linked(markdown: str, source: str) -> str:
    """The text with its links as they are in the site; `source` is its place in the repository."""

    def moved(found: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), found[0]))
        place = (PAGES | FILES).get(target, target.removeprefix("docs/"))
        return os.path.relpath(place, os.path.dirname(PAGES.get(source, source.removeprefix("docs/"))) or ".")

    return LINK.sub(moved, markdown)


def on_post_build(config: Any) -> None:
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        if loaded := LOADED.search(page.read_text()):
            raise PluginError(f"{page.name} loads something from elsewhere: {loaded[0]}")
