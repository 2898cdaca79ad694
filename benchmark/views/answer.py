"""The head of the page and its answer: what was run, what to beware of, verdicts, published numbers beside ours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.claims import LEAST_SEEDS
from benchmark.results import Run
from benchmark.views.text import LabelMark, interval, join, metric_phrase, number, plural, signed, unit_of

__all__ = ["ClaimView", "Header", "Note", "PublishedRow", "Strip", "claim_views", "headline", "page_header", "published_rows"]

VERDICT_ORDER = ("supported", "refuted", "inconclusive")


@dataclass(frozen=True)
class Note:
    """Something to know before reading a number."""

    title: str
    text: str
    items: Sequence[str] = ()


@dataclass(frozen=True)
class Header:
    """Title, the run in one sentence, and what to beware of."""

    title: str
    about: str
    run_name: str
    sentence: str
    data: str
    notes: Sequence[Note]


@dataclass(frozen=True)
class Strip:
    """An effect with its interval on a line from 0 to 100; the claim holds from `holds_from` over `holds_width`."""

    effect: float
    low: float | None
    high: float | None
    bound: float
    bound_text: str
    holds_from: float
    holds_width: float


@dataclass(frozen=True)
class ClaimView:
    """One claim with its verdict and evidence."""

    name: str
    verdict: str
    statement: str
    scope: str
    difference: str
    effect: str
    interval: str
    evidence: str
    reason: str | None
    note: str | None
    strip: Strip | None


@dataclass(frozen=True)
class PublishedRow:
    """A published number beside the run's own."""

    metric: str
    label: LabelMark | None
    name: str
    ours: str
    paper: str
    source: str


def page_header(run: Run, results: Mapping[str, Any], marks: Mapping[str, LabelMark]) -> Header:
    """Title, sentence and notes."""
    synthetic = [mark.name for mark in marks.values() if not mark.is_real]
    seeds = sorted({cell["seed"] for cell in results["cells"]})
    subjects = _subjects(run, results)
    models = f"{plural(len(synthetic), 'variant')} of a 3D WGAN ({join(synthetic)})" if synthetic else "No generative model"
    learned = f"{'was' if len(synthetic) < 2 else 'were each'} trained on patches of {plural(subjects['train'], 'subject')}"
    sentence = (
        f"{models} {learned}. A 3D U-Net learned from each one's synthetic pairs, another from the real patches; all were "
        f"chosen on {plural(subjects['validation'], 'validation subject')} and tested on whole volumes of "
        f"{plural(subjects['test'], 'subject')} that none had seen. Everything was repeated with "
        f"{plural(len(seeds), 'seed')} ({join(str(seed) for seed in seeds)})."
    )
    return Header(
        title=str(results["title"]),
        about=str(run.plan.get("about", "")),
        run_name=f"profile {results['profile']}",
        sentence=sentence,
        data=str(results["data"]["description"]),
        notes=tuple(_notes(results, seeds)),
    )


def _subjects(run: Run, results: Mapping[str, Any]) -> Mapping[str, int]:
    """Subjects per split as prepared, or as planned where the data stage has not finished."""
    for record in run.cells:
        values = run.values(record, "data")
        if values:
            counts: Mapping[str, int] = values["subjects"]
            return counts
    split: Mapping[str, int] = results["settings"]["split"]
    return split


def _notes(results: Mapping[str, Any], seeds: Sequence[int]) -> Iterator[Note]:
    if results["profile"] == "smoke":
        yield Note("These numbers mean nothing", "The smoke profile trains for seconds, only to show that every part works.")
    if results["data"].get("phantom"):
        yield Note(
            "Simulated data",
            "The subjects are an embedded phantom: simulated vessels, no patient. It shows that the method runs and how "
            "its parts compare on this task; it can neither confirm nor refute what the paper found on patients.",
        )
    else:
        yield Note(
            "Labels as they came",
            "The harness cannot know whether these labels were drawn by an expert or are pseudo-labels made by a program. "
            "A score against a pseudo-label measures agreement with that program and is no result about vessels.",
        )
    if len(seeds) < LEAST_SEEDS:
        yield Note(
            f"{plural(len(seeds), 'seed')} only",
            f"Training is random. Below {LEAST_SEEDS} seeds nothing is concluded about a training procedure, and "
            "differences between variants may be chance.",
        )
    not_done = [cell for cell in results["cells"] if cell["status"] != "done"]
    if not_done:
        yield Note(
            f"{len(not_done)} of {len(results['cells'])} cells are missing",
            "What follows is made of the finished ones. Running the same command again retries the others.",
            [f"{cell['id']}: {cell['status']}{_because(cell)}" for cell in not_done],
        )


def _because(cell: Mapping[str, Any]) -> str:
    return f" ({cell['error']})" if cell.get("error") else ""


def headline(results: Mapping[str, Any], marks: Mapping[str, LabelMark]) -> str | None:
    """The comparison that the paper is about, in one sentence; the best synthetic label is chosen on validation subjects."""
    for region, where in (("intracranial", "intracranial vessels"), ("all", "all vessels")):
        metric = f"dsc/{region}"
        validation, test = (_label_means(results, metric, split) for split in ("validation", "test"))
        real = next((name for name, mark in marks.items() if mark.is_real and name in test), None)
        synthetic = [name for name in validation if name in test and not marks[name].is_real]
        if real is None or not synthetic:
            continue
        best = max(synthetic, key=lambda name: validation[name])
        tied = [name for name in synthetic if name != best and validation[name] == validation[best]]
        tie = f" (tied with {join(tied)})" if tied else ""
        return (
            f"For {where}, U-Nets trained on synthetic pairs of {best}{tie}, the best variant on the validation subjects, "
            f"reach a mean DSC of {number(test[best], 3)} on the test subjects; trained on real patches they reach "
            f"{number(test[real], 3)}."
        )
    return None


def _label_means(results: Mapping[str, Any], metric: str, split: str) -> dict[str, float]:
    label_of = {cell["id"]: cell["label"] for cell in results["cells"]}
    values: dict[str, list[float]] = {}
    for row in results["subjects"]:
        if row["metric"] == metric and row["split"] == split and row["value"] is not None:
            values.setdefault(label_of[row["cell"]], []).append(row["value"])
    return {label: sum(column) / len(column) for label, column in values.items()}


def claim_views(run: Run, results: Mapping[str, Any]) -> tuple[Sequence[ClaimView], str]:
    """Every claim, and how many have which verdict."""
    claims = results["claims"]
    planned = run.plan["claims"]
    views = [_claim_view(claim, planned[index] if index < len(planned) else {}) for index, claim in enumerate(claims)]
    counts = {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in VERDICT_ORDER}
    tally = join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return views, f"Of {plural(len(claims), 'claim')}: {tally}." if claims else ""


def _claim_view(claim: Mapping[str, Any], planned: Mapping[str, Any]) -> ClaimView:
    metric, effect = claim["metric"], claim["effect"]
    decimals, unit = unit_of(metric)
    shown = ""
    if effect is not None:
        shown = f"{signed(effect, decimals)}{f' {unit}' if unit else ''}"
    exact = claim["unit"] == "exact count"
    return ClaimView(
        name=claim["name"],
        verdict=claim["verdict"],
        statement=_sentence(claim["statement"].replace(f"{metric} @ ", f"{metric_phrase(metric)} of ")),
        scope=claim["scope"],
        difference=f"{claim['left']} − {claim['right']}",
        effect=shown,
        interval="" if exact else interval(claim["ci_low"], claim["ci_high"], decimals),
        evidence=_evidence(claim, exact=exact),
        reason=claim.get("reason"),
        note=claim.get("note"),
        strip=None if effect is None or exact else _strip(claim, planned, decimals),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _evidence(claim: Mapping[str, Any], *, exact: bool) -> str:
    if exact:
        return "an exact count, the same at every repeat"
    return plural(claim["n"], claim["unit"]) if claim["unit"] else "no data"


def _strip(claim: Mapping[str, Any], planned: Mapping[str, Any], decimals: int) -> Strip:
    bound = planned.get("at_most") or 0.0
    values = [claim["effect"], bound, 0.0]
    values += [claim[end] for end in ("ci_low", "ci_high") if claim[end] is not None]
    low, high = min(values), max(values)
    margin = 0.15 * (high - low) or 1.0

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low + margin) / (high - low + 2 * margin), 2)

    at_bound = place(bound) or 0.0
    greater = bool(planned.get("greater"))
    return Strip(
        effect=place(claim["effect"]) or 0.0,
        low=place(claim["ci_low"]),
        high=place(claim["ci_high"]),
        bound=at_bound,
        bound_text=number(bound, decimals) if bound else "0",
        holds_from=at_bound if greater else 0.0,
        holds_width=round(100 - at_bound, 2) if greater else at_bound,
    )


def published_rows(results: Mapping[str, Any], marks: Mapping[str, LabelMark]) -> Sequence[PublishedRow]:
    """The protocol's reference values with this run's value of the same metric and label."""
    groups = {group["label"]: group["metrics"] for group in results["groups"]}
    rows = []
    for place, reference in results.get("reference", {}).items():
        metric, label = place.split(" @ ")
        decimals, unit = unit_of(metric)
        entry = groups.get(label, {}).get(metric, {})
        value, sd = entry.get("value"), entry.get("sd")
        ours = "n/a" if value is None else number(value, decimals) + (f" ± {number(sd, decimals)}" if sd is not None else "")
        phrase = _sentence(metric_phrase(metric))[:-1] + (f" ({unit})" if unit else "")
        rows.append(
            PublishedRow(phrase, marks.get(label), label, ours, number(reference["value"], decimals), reference["source"])
        )
    return rows
