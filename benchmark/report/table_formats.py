"""A table of the page as CSV, LaTeX (booktabs) and Markdown, for papers and spreadsheets."""

import csv
import io
import re
from collections.abc import Callable, Mapping

from benchmark.report.sections.tables import Entry, Row, Table

__all__ = ["FORMATS", "as_csv", "as_latex", "as_markdown", "latex_text"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "“": "``",
    "”": "''",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "\N{THIN SPACE}": r"\,",
    "\N{NO-BREAK SPACE}": "~",
}
_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def latex_text(text: str) -> str:
    """Text for LaTeX: its special characters escaped, signs of mathematics as such."""
    text = re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda match: f"\0{match.group().translate(_RAISED)}\1", text)
    escaped = "".join(_LATEX.get(char, char) for char in text)
    return escaped.replace("\0", "$^{").replace("\1", "}$")


def as_csv(table: Table, caption: str) -> str:
    """Numbers with every digit where they are known; what stands below a number in a column of its own, if any does."""
    below = [any(row.entries[at].detail for row in table.rows) for at in range(len(table.columns))]
    header = [table.corner]
    for has_detail, title in zip(below, _titles(table), strict=True):
        header += [title, f"{title}: beside"] if has_detail else [title]
    lines = [header]
    for row in table.rows:
        line = [_name(row)]
        for has_detail, entry in zip(below, row.entries, strict=True):
            value = entry.text if entry.value is None else repr(entry.value)
            spread = entry.text.partition(" ")[2] if entry.value is not None and " ± " in entry.text else ""
            beside = "; ".join(part for part in (spread, *entry.detail.splitlines()) if part)
            line += [value, beside] if has_detail else [value]
        lines.append(line)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def as_markdown(table: Table, caption: str) -> str:
    """A table of pipes; what is best by more than chance is bold."""
    lines = [[table.corner, *_titles(table)], ["---"] + ["---:"] * len(table.columns)]
    lines += [[_name(row), *(_bold(entry, "**{}**") for entry in row.entries)] for row in table.rows]
    notes = [f"{letter}: {text}" for letter, text in table.footnotes]
    cells = "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)
    return "\n\n".join([f"**{caption}**", cells, *notes]) + "\n"


def as_latex(table: Table, caption: str) -> str:
    """A `table` of booktabs; what is best by more than chance is bold."""
    lines = [[latex_text(table.corner), *(latex_text(title) for title in _titles(table))]]
    body = [
        [latex_text(_name(row)), *(_bold(entry, "\\textbf{{{}}}", latex_text) for entry in row.entries)]
        for row in table.rows
    ]
    notes = [f"{latex_text(letter)}: {latex_text(text)}" for letter, text in table.footnotes]
    return "\n".join(
        [
            "% \\usepackage{booktabs,graphicx}",
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{latex_text(caption)}}}",
            "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
            f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            "\\toprule",
            *(" & ".join(line) + r" \\" for line in lines),
            "\\midrule",
            *(" & ".join(line) + r" \\" for line in body),
            "\\bottomrule",
            "\\end{tabular}}",
            *(f"\\par\\smallskip{{\\footnotesize {note}\\par}}" for note in notes),
            "\\end{table}",
            "",
        ]
    )


FORMATS: Mapping[str, Callable[[Table, str], str]] = {"CSV": as_csv, "LaTeX": as_latex, "Markdown": as_markdown}


def _titles(table: Table) -> list[str]:
    titles = []
    for column in table.columns:
        title = f"{column.title} ({column.detail})" if column.detail else column.title
        titles.append(f"{title} {column.arrow}".strip())
    return titles


def _name(row: Row) -> str:
    return row.plain if row.arm is None else row.arm.name


def _bold(entry: Entry, pattern: str, escape: Callable[[str], str] = str) -> str:
    text = pattern.format(escape(entry.text)) if entry.is_best else escape(entry.text)
    # Brackets of an interval, a spread or a number of units stand as they are; other words get some.
    below = [line if line[0] in "±([" else f"({line})" for line in entry.detail.splitlines()]
    return " ".join([text, *map(escape, below), *([escape(f"[{entry.mark}]")] if entry.mark else [])])
