"""What is to be known of a synthetic dataset: JSON for programs, Markdown for people.

Nothing in it depends on when or how often the command ran, so that a continued dataset equals an uninterrupted one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from jinja2 import Environment, PackageLoader, StrictUndefined

from benchmark import __version__
from benchmark.artifacts.generators import generator_options, recipe_options
from benchmark.artifacts.options import RecipeValue, TrainGANOptions
from benchmark.artifacts.roles import Role
from benchmark.artifacts.values import GANValues, MemorisationValues, PreparedValues, PrivacySpent, ScoreValues
from benchmark.environment import environment
from benchmark.metrics.registry import every, is_cost
from benchmark.results.format import MetricValue
from benchmark.results.rows import subject_rows
from benchmark.results.summary import cell_result
from benchmark.scoring.audits import audit_sentence
from benchmark.trained.generator import FoundGenerator, Origin
from vesselgan.export import Intensities

__all__ = ["NO_LICENCE", "SOFTWARE", "Dataset", "Datasheet", "datasheet", "render_datasheet"]

NO_LICENCE = (
    "None is given. The terms of the generator's training data may bind what is made from it: "
    "ask whoever gave you the data before you pass this on."
)
SOFTWARE = f"vesselgan-benchmark {__version__}"
_SIZE = ("filters", "latent", "components")  # of a network
# Of a training, what is told elsewhere: in the values that came of it, or as the generator's size.
_TOLD = ("patch_size", "steps", "epochs", "privacy", "filters")


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


Ends = TypedDict("Ends", {"black": float, "white": float, "dtype": str, "from": str})


class Generation(TypedDict):
    """How the pairs were made."""

    seed: int
    batch: int
    precision: str
    recipe: Mapping[str, RecipeValue]
    environment: Mapping[str, object]


class Measured(TypedDict):
    """What is known of the quality of the generator's pairs; each None where there is nothing."""

    metrics: Mapping[str, MetricValue] | None
    metrics_of: str | None
    memorisation: Mapping[str, MemorisationValues] | None
    privacy: PrivacySpent | None


class Datasheet(Measured):
    """The content of `datasheet.json`."""

    datasheet: int
    name: str
    synthetic: bool
    pairs: int
    layout: str
    patch_size: list[int]
    spacing_mm: list[float] | None
    spacing_from: str | None
    intensities: Ends
    labels: Mapping[str, str]
    generation: Generation
    generator: Mapping[str, object]
    training_data: Mapping[str, object] | None
    licence: str
    reference: str


def datasheet(found: FoundGenerator, asked: Dataset) -> Datasheet:
    """Everything that the dataset's bytes depend on, and what is known of its quality, in plain JSON values."""
    sampler, known = found.sampler, found.intensity_range is not None
    return {
        "datasheet": 1,
        "name": asked.name,
        "synthetic": True,
        "pairs": asked.count,
        "layout": asked.layout,
        "patch_size": list(sampler.patch_size),
        "spacing_mm": list(asked.spacing_mm) if asked.spacing_mm else None,
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
            "precision": sampler.precision,
            "recipe": recipe_options(found.recipe, found.family.sampling_recipe),
            "environment": _environment(asked.device),
        },
        "generator": _generator(found),
        "training_data": _training_data(found.origin) if found.origin else None,
        **_measured(found, asked.seed, asked.batch),
        "licence": asked.licence,
        "reference": f"{SOFTWARE}; method: {found.family.reference}",
    }


def render_datasheet(sheet: Datasheet) -> str:
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


def _environment(device: str) -> Mapping[str, object]:
    """Without what no byte depends on."""
    facts = environment(device)
    return {"cpu": facts["machine"]["cpu"], **{key: value for key, value in facts.items() if key != "machine"}}


def _generator(found: FoundGenerator) -> Mapping[str, object]:
    """The generator; what follows `source` is known of one that a stage trained."""
    return {
        "name": found.name,
        "sha256": found.sha256,
        "kind": found.family.title,
        "stored_patches": found.family.stored_patches,
        **{name: value for name, value in found.sampler.facts.items() if name in _SIZE},
        "parameters": sum(tensor.numel() for tensor in found.sampler.network.parameters()),
        "source": found.source,
        **(_training(found.origin) if found.origin else {}),
    }


def _training(origin: Origin) -> Mapping[str, object]:
    options = generator_options(origin.spec.options_as(TrainGANOptions))
    result = origin.result(Role.GAN)
    assert result is not None  # or there would be no generator
    cell = origin.record["cell"] if origin.record else None
    return {
        "run": origin.run.name if origin.run else None,
        "cell": cell["id"] if cell else None,
        "variant": cell["variant"] if cell else None,
        "training": {name: value for name, value in options.items() if name not in _TOLD}
        | {name: result["values"][name] for name in ("steps", "epochs", "pairs_seen") if name in result["values"]}
        | {
            "recipe_name": cell["recipe_name"] if cell else None,
            "recipe": cell["recipe"] if cell else origin.spec.options["recipe"],
            "environment": result["facts"]["environment"],
        },
    }


def _training_data(origin: Origin) -> Mapping[str, object] | None:
    prepared = origin.values(Role.DATA, PreparedValues)
    description = origin.run.plan["data"]["description"] if origin.run else None
    if prepared is None:
        return {"description": description} if description else None
    return {"description": description, **prepared}


def _measured(found: FoundGenerator, seed: int, batch: int) -> Measured:
    """Metrics and audit of the generator's cell."""
    origin = found.origin
    if origin is None:
        return {"metrics": None, "metrics_of": None, "memorisation": None, "privacy": None}
    score, gan = origin.values(Role.SCORE, ScoreValues), origin.values(Role.GAN, GANValues)
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
    for key, named in every().items():
        entry = metrics.get(key)
        if entry is None or entry["value"] is None or is_cost(key):
            continue
        decimals, unit = named.metric.decimals, named.metric.unit
        low, high = entry["ci_low"], entry["ci_high"]
        interval = "" if low is None else f"{low:.{decimals}f} to {high:.{decimals}f}"
        yield named.title, f"{entry['value']:.{decimals}f} {unit}".strip(), interval, entry["n"]
