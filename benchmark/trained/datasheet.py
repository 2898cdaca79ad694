"""What is to be known of a synthetic dataset: JSON for programs, Markdown for people.

Nothing in it depends on when or how often the command ran, so that a continued dataset equals an uninterrupted one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmark import __version__
from benchmark.artifacts.values import GANValues, PreparedValues, ScoreValues
from benchmark.environment import environment
from benchmark.metric_names import COST_METRICS, METRIC_NAMES
from benchmark.results.format import MetricValue
from benchmark.results.rows import subject_rows
from benchmark.results.summary import cell_result
from benchmark.scoring.audits import audit_sentence
from benchmark.trained.generator import FoundGenerator, Origin
from vesselgan.export import Intensities
from vesselgan.recipe import as_dict

__all__ = ["NO_LICENCE", "REFERENCE", "Dataset", "datasheet", "render_datasheet"]

NO_LICENCE = (
    "None is given. The terms of the generator's training data may bind what is made from it: "
    "ask whoever gave you the data before you pass this on."
)
REFERENCE = f"vesselgan-benchmark {__version__}; method: Subramaniam et al. 2022, doi 10.1016/j.media.2022.102396"
_TRAINING_OPTIONS = (
    "norm",
    "batch",
    "critic_steps",
    "ema",
    "flips",
    "lr_critic",
    "lr_generator",
    "penalty_weight",
    "precision",
    "seed",
)
_GENERATION_OPTIONS = ("generation_statistics", "label_threshold")


@dataclass(frozen=True)
class Dataset:
    """What a generator is asked for; `*_given` by the user, and not by its training data."""

    name: str
    count: int
    layout: str
    seed: int
    batch: int
    spacing_mm: Sequence[float] | None
    spacing_given: bool
    intensities: Intensities
    intensities_given: bool
    licence: str
    device: str


def datasheet(found: FoundGenerator, asked: Dataset) -> dict[str, Any]:
    """Everything that the dataset's bytes depend on, and what is known of its quality, in plain JSON values."""
    recipe, network, known = as_dict(found.recipe), found.network, found.intensity_range is not None
    return {
        "datasheet": 1,
        "name": asked.name,
        "synthetic": True,
        "pairs": asked.count,
        "layout": asked.layout,
        "patch_size": list(network.patch_size),
        "spacing_mm": asked.spacing_mm and list(asked.spacing_mm),
        "spacing_from": "given"
        if asked.spacing_given
        else "median of the training subjects"
        if asked.spacing_mm
        else None,
        "intensities": {
            "black": asked.intensities.black,
            "white": asked.intensities.white,
            "dtype": str(asked.intensities.dtype),
            "from": "given"
            if asked.intensities_given
            else "median range of the training subjects"
            if known
            else "arbitrary",
        },
        "labels": {"0": "background", "1": "vessel"},
        "generation": {
            "seed": asked.seed,
            "batch": asked.batch,
            "precision": found.precision,
            "recipe": {name: recipe[name] for name in _GENERATION_OPTIONS},
            "environment": _environment(asked.device),
        },
        "generator": {
            "name": found.name,
            "sha256": found.sha256,
            "filters": network.filters,
            "latent": network.latent,
            "parameters": sum(tensor.numel() for tensor in network.parameters()),
            "source": found.source,
            **(_training(found.origin) if found.origin else {}),
        },
        "training_data": _training_data(found.origin) if found.origin else None,
        **_measured(found, asked.seed, asked.batch),
        "licence": asked.licence,
        "reference": REFERENCE,
    }


def render_datasheet(sheet: Mapping[str, Any]) -> str:
    """The content of `datasheet.md`."""
    templates = Environment(
        loader=PackageLoader("benchmark.trained", ""), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    view = {
        **sheet,
        "patch": " x ".join(map(str, sheet["patch_size"])),
        "spacing": " x ".join(f"{mm:.4g}" for mm in sheet["spacing_mm"] or ()),
        "black": f"{sheet['intensities']['black']:g}",
        "white": f"{sheet['intensities']['white']:g}",
        "audits": [audit_sentence(space, audit) for space, audit in (sheet["memorisation"] or {}).items()],
        "rows": list(_metric_rows(sheet["metrics"] or {})),
    }
    return templates.get_template("datasheet.md.j2").render(view)


def _environment(device: str) -> dict[str, Any]:
    """Without what no byte depends on."""
    facts = environment(device)
    return {"cpu": facts["machine"]["cpu"], **{key: value for key, value in facts.items() if key != "machine"}}


def _training(origin: Origin) -> dict[str, Any]:
    options = origin.spec.options["wgan"]
    result = origin.result("gan")
    assert result is not None  # or there would be no generator
    cell = origin.record["cell"] if origin.record else None
    return {
        "run": origin.run.name if origin.run else None,
        "cell": cell and cell["id"],
        "variant": cell and cell["variant"],
        "training": {name: options[name] for name in _TRAINING_OPTIONS if name in options}
        | {name: result["values"][name] for name in ("steps", "epochs")}
        | {
            "recipe_name": cell and cell["recipe_name"],
            "recipe": cell["recipe"] if cell else origin.spec.options["recipe"],
            "environment": result["facts"]["environment"],
        },
    }


def _training_data(origin: Origin) -> dict[str, Any] | None:
    prepared = origin.values("data", PreparedValues)
    description = origin.run.plan["data"]["description"] if origin.run else None
    if prepared is None:
        return {"description": description} if description else None
    return {"description": description, **prepared}


def _measured(found: FoundGenerator, seed: int, batch: int) -> dict[str, Any]:
    """Metrics and audit of the generator's cell; each None where there is none."""
    origin = found.origin
    if origin is None:
        return {"metrics": None, "metrics_of": None, "memorisation": None, "privacy": None}
    score, gan = origin.values("score", ScoreValues), origin.values("gan", GANValues)
    metrics: Mapping[str, MetricValue] = {}
    if origin.run and origin.record:
        metrics = cell_result(origin.run, origin.record, subject_rows(origin.run, [origin.record]))["metrics"]
    same = (seed, batch) == (found.seed, found.batch)
    which = "pairs of this seed and batch" if same else "other pairs of this generator (another seed or batch)"
    return {
        "metrics": metrics or None,
        "metrics_of": f"the first {score['facts']['samples']} {which}" if score else None,
        "memorisation": score.get("memorisation") if score else None,
        "privacy": gan.get("privacy") if gan else None,
    }


def _metric_rows(metrics: Mapping[str, MetricValue]) -> Iterator[tuple[str, str, str, int]]:
    """Name, value, interval, n."""
    for key, (title, decimals, unit) in METRIC_NAMES.items():
        entry = metrics.get(key)
        if entry is None or entry["value"] is None or key in COST_METRICS:
            continue
        low, high = entry["ci_low"], entry["ci_high"]
        interval = "" if low is None else f"{low:.{decimals}f} to {high:.{decimals}f}"
        yield title, f"{entry['value']:.{decimals}f} {unit}".strip(), interval, entry["n"]
