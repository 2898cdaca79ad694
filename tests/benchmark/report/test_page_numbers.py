"""The page shows what stands in results.json: its numbers are looked up there, those of tables with every digit."""

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

from benchmark.protocol.schema import Profile
from benchmark.report import sections
from benchmark.report.exports import flatten
from benchmark.report.results_json import results_of
from benchmark.report.run_page import render_report
from benchmark.results.run_folder import load_run
from vesselgan.recipe import Recipe

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
# Units that a reader is used to: a share as percent, seconds as minutes.
UNITS = (1.0, 100.0, 1 / 60)


def numbers(text: str) -> list[str]:
    text = re.sub(r"\(commit [0-9a-f]+\)", "", text)  # digits that are no number
    return NUMBER.findall(text.replace("\N{THIN SPACE}", ""))


class Shown(HTMLParser):
    """The text of a page without its charts and scripts, apart for the tables of results and all the rest."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[str] = []
        self.rest: list[str] = []
        self._hidden = 0
        self._in_table = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("svg", "style", "script")
        if tag == "table":  # settings and recipes are told in words
            self._in_table = "texts" not in (dict(attrs).get("class") or "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("svg", "style", "script")
        self._in_table &= tag != "table"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            (self.tables if self._in_table else self.rest).append(data)


def leaves(tree: Any) -> Iterator[Any]:
    """Keys, values and lengths."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key
            yield from leaves(value)
    elif isinstance(tree, list):
        yield len(tree)
        for value in tree:
            yield from leaves(value)
    else:
        yield tree


def written_in_the_program() -> set[str]:
    """Numbers in the words of templates, sections and claims, and the values that settings and recipes depart from."""
    templates = ROOT / "benchmark/report/templates"
    texts = [path.read_text(encoding="utf-8") for path in (*templates.glob("*.j2"), *templates.glob("*.bib"))]
    for folder in ("report/sections", "claims", "scoring"):
        for path in (ROOT / "benchmark" / folder).glob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            texts += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    texts += [str(option.metadata) for option in fields(Recipe)]
    defaults = [value for _, value in flatten(Profile().model_dump(mode="json"))]
    texts += [f"{value:g}" if isinstance(value, float) else str(value) for value in defaults]
    return {number for text in texts for number in numbers(text)}


class Known:
    """What results.json has: numbers with every digit, and those in its texts."""

    def __init__(self, results: Any) -> None:
        plain = list(leaves(json.loads(json.dumps(results))))
        self.values = {abs(leaf) for leaf in plain if isinstance(leaf, int | float) and not isinstance(leaf, bool)}
        self.percents = {100 * value for value in self.values}
        self.texts = {number for leaf in plain if isinstance(leaf, str) for number in numbers(leaf)}

    def has_exactly(self, number: str) -> bool:
        return number in self.texts or float(number) in self.values or float(number) in self.percents

    def has_rounded(self, number: str) -> bool:
        decimals, digits = len(number.partition(".")[2]), len(number.replace(".", "").lstrip("0"))
        return any(
            number in (f"{value * unit:.{decimals}f}", f"{value * unit:.{digits}g}", f"{value * unit:g}")
            for value in self.values
            for unit in UNITS
        )


def with_every_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the sections write numbers as they are, so that none is taken for another of the same first digits."""
    for module in pkgutil.iter_modules(sections.__path__):
        section = importlib.import_module(f"{sections.__name__}.{module.name}")
        for name in ("number", "deviation", "p_words"):
            if hasattr(section, name):
                monkeypatch.setattr(section, name, lambda value, decimals=0: repr(value))


@pytest.mark.parametrize("name", ["paper", "precision", "generators", "utility", "deviations"])
def test_every_number_of_the_page_stands_in_results_json(
    name: str, smoke_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_every_digit(monkeypatch)
    run = load_run(smoke_runs, f"{name}-smoke")
    results = results_of(run)
    render_report(run, results, tmp_path)
    shown, known = Shown((tmp_path / "index.html").read_text(encoding="utf-8")), Known(results)
    in_tables = [number for text in shown.tables for number in numbers(text)]
    assert len(in_tables) > 20
    assert any(len(number) > 12 for number in in_tables), "with every digit"
    written = written_in_the_program()
    assert not [number for number in in_tables if number not in written and not known.has_exactly(number)]
    elsewhere = [(number, text) for text in shown.rest for number in numbers(text)]
    unknown = [(number, text) for number, text in elsewhere if number not in written and not known.has_exactly(number)]
    assert not [(number, text) for number, text in unknown if not known.has_rounded(number)]


def test_a_number_that_is_computed_for_the_page_would_be_seen() -> None:
    known = Known({"cells": [{"value": 0.123456789012}, {"value": 0.2}], "sentence": "of 17 patches"})
    assert known.has_exactly("0.123456789012")
    assert known.has_exactly("17")
    assert known.has_exactly("2"), "how many cells there are"
    assert not known.has_exactly(repr(0.123456789012 / 2))
    assert known.has_rounded("0.12")
    assert known.has_rounded("12.3"), "percent"
    assert not known.has_rounded("0.16"), "the mean of both"
