"""What somebody needs to make the run again, and to write about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.report.sections.departures import deviations_in_force
from benchmark.report.sections.methods_paragraph import methods_paragraph, references
from benchmark.report.sections.missing import MissingCell, missing_cells
from benchmark.results.format import Results
from benchmark.words import plural

__all__ = ["Reproduce", "reproduce_view"]


@dataclass(frozen=True)
class Reproduce:
    """Texts to copy, the facts on which the run rests, and what of it is missing."""

    command: str
    needs: str
    checkout: bool
    protocol_file: str
    protocol: str | None
    requirements: str
    facts: Sequence[tuple[str, str]]
    missing: Sequence[MissingCell]
    cells: str
    methods: str
    references: str


def reproduce_view(results: Results) -> Reproduce:
    """Everything of the section, from results.json."""
    commit, own = results["environment"]["commit"], results["reproduce"]
    lines = [f"git checkout {commit}", own["command"]] if commit else [own["command"]]
    versions = {name: text.partition("+")[0] for name, text in results["environment"]["versions"].items()}
    methods = methods_paragraph(results)
    return Reproduce(
        command="\n".join(lines),
        needs=_needs(own["command"]),
        checkout=bool(commit),
        protocol_file=f"{results['protocol']}.yaml",
        protocol=own["protocol"],
        requirements="\n".join(f"{name}=={text}" for name, text in versions.items()),
        facts=list(_facts(results)),
        missing=missing_cells(results),
        cells=plural(len(results["cells"]), "cell"),
        methods=methods,
        references=references(methods),
    )


def _needs(command: str) -> str:
    """What the command cannot name."""
    words = command.split()
    parts = ["DIR is the folder of the scans, which earlier versions did not record."] * ("DIR" in words)
    parts += ["FILE is that of MedicalNet's weights."] * ("FILE" in words)
    given = {"--data", "--layout", "--weights"} & {*words}
    parts += ["Paths are as they were given, from the folder in which the command was."] * bool(given and not parts)
    return " ".join(parts)


def _facts(results: Results) -> Iterator[tuple[str, str]]:
    data, environment = results["data"], results["environment"]
    sha256 = data.get("sha256")
    of = "its options" if data.get("phantom") else "the files' hashes and options"
    yield "data", data["description"] + (f"; SHA-256 of {of}: {sha256}" if sha256 else "")
    commit = environment["commit"]
    dirty = ", with uncommitted changes" if environment["dirty"] else ""
    yield "code", f"commit {commit}{dirty}" if commit else "an installed package, whose commit is not known"
    machine = environment["machine"]
    yield (
        "processor",
        f"{machine['cpu']}, {plural(machine['cores'], 'core')}, {machine['system']}"
        + (f"; {machine['gpu']}" if "gpu" in machine else "")
        + (f"; instructions {', '.join(environment['instructions'])}" if environment.get("instructions") else ""),
    )
    yield "numerics", " ".join(results["numerics"]) or "not checked"
    yield "deviations", "; ".join(deviations_in_force(results)) or "none: the corrected recipe"
