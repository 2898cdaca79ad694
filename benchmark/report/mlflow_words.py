"""What MLflow shows of a run in words: the tags that people filter by, the data, and notes."""

from benchmark.artifacts.store import canonical_json
from benchmark.claims.realism import cell_warning
from benchmark.metrics.registry import every
from benchmark.report.exports import flatten
from benchmark.results.format import CellResult, Results
from benchmark.words import plural
from vesselgan.files import text_sha256

__all__ = ["cell_note", "dataset_facts", "environment_tags", "filter_tags", "run_note"]

IN_NOTE = ("dsc/intracranial", "dsc/all", "fid", "step_time_ms")
SENTENCES = 3  # of a note


def filter_tags(results: Results) -> dict[str, str]:
    """What people filter by."""
    environment = results["environment"]
    machine = environment["machine"]
    tags = {
        "protocol": results["protocol"],
        "profile": results["profile"],
        "commit": environment["commit"] or "unknown",
        "machine": f"{machine.get('gpu', machine['cpu'])}, {machine['cores']} cores",
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": f"python -m benchmark run {results['protocol']} --profile {results['profile']}",
    }
    return tags | ({"mlflow.source.git.commit": environment["commit"]} if environment["commit"] else {})


def environment_tags(results: Results) -> dict[str, str]:
    """Machine, versions, and what the numerics checks found."""
    facts = {name: value for name, value in results["environment"].items() if name != "numerics"}
    return {f"environment.{key}": str(value) for key, value in flatten(facts)} | {
        "numerics": " ".join(results["numerics"])
    }


def dataset_facts(results: Results) -> dict[str, str]:
    """The data as MLflow describes a dataset: its name, what its content hashes to, and where it is from."""
    data = results["data"]
    content = data.get("sha256") or text_sha256(canonical_json(data["description"]))
    source = "simulated by this program" if data["phantom"] else "files given with --data"
    profile = {f"{split}_subjects": count for split, count in results["split"].items()}
    return {
        "name": data["description"].partition(",")[0],
        "digest": content[:32],
        "source": canonical_json({"description": data["description"], "source": source}),
        "profile": canonical_json(profile),
    }


def run_note(results: Results) -> str:
    """The answer, the bad news first."""
    answer = results["answer"]
    sentences = [*answer["warnings"], *answer["sentences"]] if answer else []
    done = sum(cell["status"] == "done" for cell in results["cells"])
    counts = f"{done} of {plural(len(results['cells']), 'cell')} done."
    trial = " A trial: its numbers mean nothing." if results["is_trial"] else ""
    return "\n\n".join(
        [f"**{results['title']}**, profile {results['profile']}: {counts}{trial}", *sentences[:SENTENCES]]
    )


def cell_note(cell: CellResult, results: Results) -> str:
    """The main numbers of a cell, and what is wrong with its pairs."""
    known = every()
    shown = [
        f"{known[name].title_with_unit} {entry['value']:.{known[name].metric.decimals}f}"
        for name in IN_NOTE
        if name in known and (entry := cell["metrics"].get(name)) and entry["value"] is not None
    ]
    of_seed = "" if cell["kind"] == "untrained" else f", seed {cell['seed']}"
    parts = [f"{cell['label']}{of_seed}: {'; '.join(shown) or cell['error'] or cell['status']}."]
    if warning := cell_warning(cell, results["floor"]):
        parts.append(f"{warning[:1].upper()}{warning[1:]}.")
    return "\n\n".join(parts)
