"""Every link leads somewhere: on the pages of all protocols, in the example, and in the Markdown files."""

import re
from collections.abc import Iterator
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from paths import ROOT

MARKDOWN = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "reports/README.md"]


class Page:
    """What a page can be entered at, and where it leads; the standard library's parser takes a minute for it."""

    def __init__(self, path: Path) -> None:
        found = re.findall(r'\s(id|href|src|xlink:href)="([^"]*)"', path.read_text(encoding="utf-8"))
        self.anchors = {unescape(value) for name, value in found if name == "id"}
        self.links = [unescape(value) for name, value in found if name != "id"]


@cache
def anchors_of(path: Path) -> set[str]:
    if path.suffix == ".html":
        return Page(path).anchors
    titles = re.findall(r"^#+ +(.+?) *$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    # As GitHub makes them.
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(path: Path, links: list[str]) -> Iterator[str]:
    for link in links:
        parts = urlparse(link)
        if parts.scheme in ("http", "https", "data"):
            continue
        target = path.parent / unquote(parts.path) if parts.path else path
        if not target.exists() or (parts.fragment and parts.fragment not in anchors_of(target)):
            yield link


def test_the_checker_finds_what_is_dead(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<p id="a"><a href="#a"></a><a href="#b"></a><a href="no.txt"></a><a href="page.html#a"></a></p>')
    assert list(dead_links(page, Page(page).links)) == ["#b", "no.txt"]


@pytest.mark.parametrize("protocol", ["paper", "precision", "utility", "deviations", "generators"])
def test_every_link_of_a_protocols_page_leads_somewhere(protocol: str, smoke_runs: Path) -> None:
    path = smoke_runs / f"reports/{protocol}-smoke/index.html"
    page = Page(path)
    assert len(page.links) > 5
    assert list(dead_links(path, page.links)) == []


def test_every_link_of_the_example_leads_somewhere() -> None:
    path = ROOT / "reports/example/index.html"
    assert list(dead_links(path, Page(path).links)) == []


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_every_link_of_the_documentation_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert list(dead_links(path, links)) == []
