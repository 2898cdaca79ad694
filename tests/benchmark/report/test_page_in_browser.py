"""The page of a run as people see it: in Chromium, from a file, offline."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import console_of
from PIL import Image
from playwright.sync_api import Browser, Page
from pypdf import PdfReader

PHONE, DESK = {"width": 400, "height": 800}, {"width": 1280, "height": 900}
A4_PIXELS = 718  # 190 mm at 96 dots per inch: the sheet without its margins
CANVAS = "canvas[data-ready]:not([data-ready=''])"


@pytest.fixture(scope="module")
def path(finished_smoke: Path) -> Path:
    return finished_smoke / "reports/paper-smoke/index.html"


@pytest.fixture
def page(chromium: Browser, path: Path) -> Iterator[Page]:
    """The page on a desk, which must complain of nothing, whatever a test does."""
    context = chromium.new_context(viewport=DESK, offline=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    told = console_of(page)
    page.goto(path.as_uri())
    yield page
    context.close()
    assert told == []


def open_all(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def width_of(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_of_the_page_is_closed_to_anybody(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    open_all(page)
    result = Axe().run(page)
    assert result.violations_count == 0, result.generate_report()
    assert len(result.response["passes"]) > 20


def test_a_phone_shows_the_whole_width_with_everything_opened(page: Page) -> None:
    page.set_viewport_size(PHONE)
    assert page.locator("table.rivals").count(), "the table that was too wide"
    open_all(page)
    assert width_of(page) == PHONE["width"]


LINES = """(all) => all.flatMap((each) => {
  const range = document.createRange();
  range.selectNodeContents(each);
  return [...range.getClientRects()].map((line) => [line.right, line.top, line.bottom]);
})"""


def test_the_first_screen_says_the_answer_and_what_to_beware_of_beside_it(page: Page) -> None:
    beside, below = page.locator(".notes").bounding_box(), page.locator("#answer .medians").bounding_box()
    assert beside
    assert below
    lines = page.locator("#answer > h2 ~ p:not(.answer-table ~ p, :has(+ .answer-table))").evaluate_all(LINES)
    assert len(lines) > 5
    assert max(bottom for _, _, bottom in lines) <= min(DESK["height"], below["y"])
    assert beside["y"] < min(top for _, top, _ in lines), "nobody reads a number before that"
    assert all(right <= beside["x"] for right, top, _ in lines if top < beside["y"] + beside["height"])


def test_the_sections_stay_in_reach(page: Page) -> None:
    page.locator("#glossary").scroll_into_view_if_needed()
    box = page.locator("nav").bounding_box()
    assert box is not None
    assert box["y"] == 0
    page.locator("nav a", has_text="Cost").click()
    page.wait_for_function("document.querySelector('nav [aria-current]')?.hash === '#cost'")


def test_a_click_on_a_heading_sorts_by_every_digit_and_the_third_restores(page: Page) -> None:
    table = page.locator("#segmentation table").first
    column = "[...arguments[0].tBodies[0].rows].map((row) => Number(row.cells[1].dataset.value))"
    read = f"(table) => {column.replace('arguments[0]', 'table')}"
    before, heading = table.evaluate(read), table.locator("thead th").nth(1)
    assert before != sorted(before)
    for expected, sort in ((sorted(before), "ascending"), (sorted(before, reverse=True), "descending"), (before, None)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == sort
        assert table.evaluate(read) == expected


def test_what_is_missing_stands_last_either_way(page: Page) -> None:
    table = page.locator("#cost table").first
    table.evaluate("(table) => { delete table.tBodies[0].rows[0].cells[3].dataset.value; "
                   "table.tBodies[0].rows[0].cells[3].textContent = 'n/a'; }")  # fmt: skip
    for _ in range(2):
        table.locator("thead th").nth(3).locator("button").click()
        assert table.locator("tbody tr").last.locator("td").nth(2).inner_text() == "n/a"


@pytest.mark.parametrize("form", ["CSV", "LaTeX", "Markdown"])
def test_a_table_is_copied_as_it_is_exported(page: Page, form: str) -> None:
    box = page.locator("#segmentation .table").first
    box.locator(".tools button", has_text=form).click()
    page.wait_for_function("document.querySelector('[role=status]').textContent.includes('copied')")
    exported = json.loads(box.locator("script.exports").evaluate("(script) => script.textContent"))
    assert page.evaluate("navigator.clipboard.readText()") == exported[form]


def test_the_command_is_copied(page: Page) -> None:
    page.locator("#reproduce .tools button").first.click()
    page.wait_for_function("document.querySelector('[role=status]').textContent.includes('copied')")
    assert "python -m benchmark run paper.yaml --profile smoke" in page.evaluate("navigator.clipboard.readText()")


def pixels_of(page: Page) -> Any:
    return np.asarray(Image.open(BytesIO(page.locator("canvas").screenshot())).convert("RGB")).astype(int)


def test_volumes_are_looked_at_when_somebody_asks_for_them(page: Page) -> None:
    assert page.evaluate("typeof niivue") == "undefined"
    page.click("#viewer-open")
    page.wait_for_selector(CANVAS)
    pixels = {}
    for layer in ("errors", "truth", "prediction", "scan alone"):
        page.locator(f"#viewer button:text-is('{layer}')").click()
        page.wait_for_function("(name) => document.querySelector('canvas').dataset.layer === name", arg=layer)
        page.wait_for_timeout(150)  # until it is drawn
        pixels[layer] = pixels_of(page)
    assert (pixels["scan alone"].max(axis=2) > 60).mean() > 0.05, "a scan, and not a black frame"
    coloured = {layer: (np.ptp(each, axis=2) > 60).sum() for layer, each in pixels.items()}
    assert coloured["errors"] > coloured["scan alone"], "missed and invented voxels are in colour"
    assert (pixels["truth"] != pixels["prediction"]).any()
    patch = page.locator("#viewer button", has_text="synthetic patch")
    patch.click()
    page.wait_for_selector("canvas[data-ready^='synthetic patch']")
    assert page.locator("#viewer button[aria-pressed=true]").all_inner_texts()[1] == "label"


def test_paper_has_what_is_folded_and_no_buttons(page: Page) -> None:
    closed = page.locator("details:not([open])").count()
    assert closed > 2
    pdf = PdfReader(BytesIO(page.pdf(format="A4", margin=dict.fromkeys(("top", "right", "bottom", "left"), "10mm"))))
    text = " ".join(part.extract_text() for part in pdf.pages)
    assert "default_profile: laptop" in text, "the protocol is folded on the screen"
    assert "Every comparison" in text
    assert "Copy as" not in text
    assert "Open the viewer" not in text
    page.emulate_media(media="print")
    page.set_viewport_size({"width": A4_PIXELS, "height": 1000})
    assert width_of(page) <= A4_PIXELS, "no table is cut off"
    assert page.locator("details:not([open])").count() == closed, "what was closed is closed again"


MARK_TABLES = """() => [...document.querySelectorAll("table")].flatMap((table, at) => {
  const rows = table.tBodies[0].rows;
  if (!table.tHead) return [];
  table.tHead.rows[0].cells[0].append(` HEAD${at}X`);
  [...rows].forEach((row, line) => row.cells[0].append(` ROW${at}.${line}X`));
  return [[at, rows.length]];
})"""


def test_tables_break_between_sheets_only_where_they_are_long_and_then_with_their_headings(page: Page) -> None:
    tables = page.evaluate(MARK_TABLES)
    assert min(length for _, length in tables) < 20 < max(length for _, length in tables)
    margins = dict.fromkeys(("top", "right", "bottom", "left"), "10mm")
    sheets = [sheet.extract_text() for sheet in PdfReader(BytesIO(page.pdf(format="A4", margin=margins))).pages]
    found = {}
    for at, length in tables:
        head = [number for number, text in enumerate(sheets) if f"HEAD{at}X" in text]
        rows = [number for number, text in enumerate(sheets) for line in range(length) if f"ROW{at}.{line}X" in text]
        found[at] = (length, set(rows), set(head))
    assert all(rows and rows == head for _, rows, head in found.values()), found
    assert [at for at, (length, rows, _) in found.items() if length < 20 and len(rows) > 1] == []


def test_a_reader_without_scripts_has_everything_but_buttons(chromium: Browser, path: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("table").count() > 8
    assert page.locator("button:visible").count() == 0
    assert page.locator("#volume img").count() > 5
    context.close()


def test_the_page_is_small_enough_to_be_sent(path: Path) -> None:
    assert path.stat().st_size < 10_000_000
