"""A paragraph for a paper's methods section, in LaTeX, with the references of what a run used."""

import re
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmark.metrics.registry import every
from benchmark.report.sections.departures import departures, deviations_in_force
from benchmark.report.table_formats import latex_text
from benchmark.results.format import Results
from benchmark.words import join, plural
from vesselgan.families import family_of

__all__ = ["methods_paragraph", "references"]

EXTRACTORS = {
    "medicalnet": "MedicalNet's ResNet-10~\\cite{chen2019}",
    "random_resnet10": "a ResNet-10 with random weights",
    "radiomics_v1": "radiomics features",
}


def methods_paragraph(results: Results) -> str:
    """What was done, in LaTeX, as far as results.json says it."""
    cells, settings, environment = results["cells"], results["settings"], results["environment"]
    made = [cell for cell in cells if cell["kind"] in ("synthetic", "external")]
    labels = list(dict.fromkeys(cell["label"] for cell in made))
    rules = list(dict.fromkeys(cell["label"] for cell in cells if cell["kind"] == "untrained"))
    norms, precisions = {cell["norm"] for cell in made}, {cell["precision"] for cell in made}
    families = {family_of(cell, "family").name for cell in made if cell["kind"] == "synthetic"}
    keys = ["subramaniam2022"]
    keys += ["gulrajani2017"] * ("wgan" in families and "instance" in norms)
    keys += ["miyato2018"] * ("spectral" in norms) + ["micikevicius2018"] * (len(precisions) > 1)
    steps = sorted({cell["trainings"]["gan"]["steps"] for cell in made if "gan" in cell["trainings"]})
    seeds = {cell["seed"] for cell in cells}
    found = {cell["metrics"][name].get("extractor") for cell in cells for name in cell["metrics"]} - {None}
    version = environment["versions"].get("vesselgan-benchmark", "")
    commit = environment["commit"]
    texts: dict[str, object] = {
        "count": len({cell["label"] for cell in cells}),
        "noun": "configurations",
        "labels": ", ".join(dict.fromkeys(cell["label"] for cell in cells)),
        "models": f"{plural(len(labels), 'generator')} ({', '.join(labels)})",
        "patch": " × ".join(map(str, settings.get("patch", ()))),
        "train": results["split"].get("train", 0),
        "validation": results["split"].get("validation", 0),
        "test": results["split"].get("test", 0),
        "data": results["data"]["description"],
        "steps": f" for {join(f'{count:,}' for count in steps)} steps" if steps else "",
        "seeds": len(seeds),
        "pairs": settings.get("pairs", ""),
        "rules": join(rules),
        "machine": environment["machine"].get("gpu") or environment["machine"]["cpu"],
        "torch": environment["versions"].get("torch", ""),
        "software": f"vesselgan-benchmark {version}" + (f" (commit {commit[:10]})" if commit else ""),
        "departures": "; ".join(departures(settings)),
        "deviations": join(text.partition(":")[0].partition(",")[0] for text in deviations_in_force(results)),
        "claims": len(results["claims"]),
    }
    commands = {
        "model_keys": ",".join(keys),
        "rule_keys": "~\\cite{sato1998}" if "vesselness" in rules else "",
        "segmentation": _named(results, "subject"),
        "distances": _named(results, "set"),
        "extractor": join(EXTRACTORS.get(name, latex_text(name)) for name in sorted(filter(None, found))),
    }
    context = {name: latex_text(value) if isinstance(value, str) else value for name, value in texts.items()}
    flags = {
        "only_costs": results["only"] == "costs",
        "repeats": len(seeds) > 1,
        "phantom": bool(results["data"].get("phantom")),
    }
    text = _environment().get_template("methods.tex.j2").render({**context, **commands, **flags})
    return " ".join(text.split())


def references(paragraph: str) -> str:
    """The BibTeX entries that the paragraph cites, in the order of the file."""
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", paragraph) for key in keys.split(",")}
    text = (resources.files("benchmark.report.templates") / "references.bib").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=@)", text)
    return "\n".join(entry for entry in entries if entry.partition("{")[2].partition(",")[0] in cited)


def _named(results: Results, kind: str) -> str:
    """The metrics of a kind that any cell has, once each, with their references."""
    known = {name for cell in results["cells"] for name in cell["metrics"]}
    titles: dict[str, None] = {}
    others = False
    for name, named in every().items():
        if named.kind == kind and name in known:
            key = named.metric.cited
            others |= key is None
            if key is not None:
                title = latex_text(named.metric.title.partition(" (")[0])
                titles[f"{title}~\\cite{{{key}}}" if key else title] = None
    return join([*titles, *["further metrics"] * others])


@cache
def _environment() -> Environment:
    """LaTeX has braces of its own, so that names stand in << >>."""
    return Environment(
        loader=PackageLoader("benchmark.report"),
        undefined=StrictUndefined,
        variable_start_string="<<",
        variable_end_string=">>",
        line_statement_prefix="% ",
        autoescape=False,
    )
