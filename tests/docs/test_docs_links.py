"""Links within the documentation lead somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from markdown_pages import PAGES, anchors, links


def broken_links(page: Path) -> list[str]:
    """Relative links of ``page`` whose file or heading does not exist."""
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_links_resolve(page: Path) -> None:
    assert broken_links(page) == []


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve() for page in PAGES
        for link in links(page.read_text(encoding="utf-8")) if "://" not in link
    }
    assert [p.name for p in PAGES[1:] if p.resolve() not in linked] == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading: here\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md) [b](other.md#a-heading-here) [c](nothing.md) [d](other.md#nothing) [e](#page)\n")
    assert broken_links(page) == ["nothing.md", "other.md#nothing", "#page"]
