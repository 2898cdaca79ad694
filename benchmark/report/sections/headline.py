"""The head of the page and its answer: what was run, what to beware of, the main numbers, and published ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmark.claims.realism import RULE
from benchmark.claims.statistics import LEAST_SEEDS
from benchmark.protocol.cells import Kind
from benchmark.protocol.claim import split_side
from benchmark.report.sections.gain import share_entry
from benchmark.report.sections.missing import missing_cells
from benchmark.report.sections.tables import Column, Entry, Footnotes, Row, Table
from benchmark.report.sections.text import ArmMark, deviation, interval, metric_phrase, number, unit_of
from benchmark.results.format import CellResult, Results
from benchmark.results.judgements import AnswerRegion, Best, BestOfKind
from benchmark.words import join, plural
from vesselgan.families import family_of

__all__ = ["Header", "Headline", "Note", "PublishedRow", "headline", "page_header", "published_rows"]


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
class Headline:
    """The main comparison: what no number may outshine, what is compared, the numbers, and what they say."""

    warnings: Sequence[str]
    what: str
    table: Table | None
    sentences: Sequence[str]
    about: str


@dataclass(frozen=True)
class PublishedRow:
    """A published number beside the run's own."""

    metric: str
    arm: ArmMark | None
    name: str
    ours: str
    paper: str
    source: str


def page_header(results: Results, marks: Mapping[str, ArmMark]) -> Header:
    """Title, sentence and notes."""
    external, synthetic = (_named(marks, kind) for kind in ("external", "synthetic"))
    elsewhere = f" Pairs that were made elsewhere stand beside them ({join(external)})." if external else ""
    seeds = sorted({cell["seed"] for cell in results["cells"]})
    subjects = results["split"]
    models = _models(results["cells"], synthetic)
    learned = (
        f"{'was' if len(synthetic) < 2 else 'were each'} trained on patches of {plural(subjects['train'], 'subject')}"
    )
    only_costs = results["only"] == "costs"
    sentence = (
        _costs_only(results)
        if only_costs
        else (
            f"{models} {learned}. A 3D U-Net learned from each one's synthetic pairs, another from the real patches"
            f"{_arms(results['cells'])}; all were chosen on {plural(subjects['validation'], 'validation subject')} and "
            f"tested on whole volumes of {plural(subjects['test'], 'subject')} that none had seen. "
            f"{_repeats(seeds)}{_rules(marks)}{elsewhere}"
        )
    )
    return Header(
        title=results["title"],
        about=results["about"],
        run_name=f"profile {results['profile']}",
        sentence=sentence,
        data=results["data"]["description"],
        notes=tuple(_notes(results, seeds, only_costs=only_costs)),
    )


def _named(marks: Mapping[str, ArmMark], kind: Kind) -> Sequence[str]:
    return [mark.name for mark in marks.values() if mark.kind == kind]


def _models(cells: Sequence[CellResult], labels: Sequence[str]) -> str:
    """`Two variants of a 3D WGAN (SN, SN-MP) and one of a 3D autoregressive generator (AR)`."""
    by_kind: dict[str, list[str]] = {}
    for cell in cells:
        of_kind = by_kind.setdefault(family_of(cell, "family").title, []) if cell["label"] in labels else []
        if cell["label"] not in of_kind:
            of_kind.append(cell["label"])
    parts = [
        f"{_word(len(names))}{'' if at else ' variant' + 's' * (len(names) > 1)} of a 3D {title} ({join(names)})"
        for at, (title, names) in enumerate(by_kind.items())
    ]
    return join([*parts[:1], *(part[:1].lower() + part[1:] for part in parts[1:])]) or "No generative model"


def _arms(cells: Sequence[CellResult]) -> str:
    """Further U-Nets, if any."""
    kinds = {cell["kind"] for cell in cells}
    fewer = any(cell["kind"] == "real" and cell["real_subjects"] for cell in cells)
    mixed, phantoms = "mixed" in kinds, "procedural" in kinds
    parts = ["from the patches of fewer real subjects"] * fewer + ["from real and synthetic patches together"] * mixed
    parts += ["from phantoms alone, with random looks"] * phantoms
    return f", and further ones {join(parts)}" if parts else ""


def _rules(marks: Mapping[str, ArmMark]) -> str:
    """Baselines without learning, if any."""
    rules = _named(marks, "untrained")
    what = "stands a rule" if len(rules) == 1 else "stand rules"
    return f" Beside them {what} without learning ({join(rules)}), chosen on the training subjects." if rules else ""


def _costs_only(results: Results) -> str:
    configurations = len({cell["label"] for cell in results["cells"]})
    return (
        f"Nothing was trained: this run measures what one training step of {plural(configurations, 'configuration')} "
        "costs in time and memory."
    )


def _word(count: int) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
    return words[count] if count < len(words) else str(count)


def _repeats(seeds: Sequence[int]) -> str:
    times = {1: "once", 2: "twice"}.get(len(seeds), f"{len(seeds)} times")
    noun = "seed" if len(seeds) == 1 else "seeds"
    return f"Each was trained {times}, with {noun} {join(str(seed) for seed in seeds)}."


def _notes(results: Results, seeds: Sequence[int], *, only_costs: bool) -> Iterator[Note]:
    if results["is_trial"]:
        yield Note(
            "These numbers mean nothing",
            f"The {results['profile']} profile trains for seconds, only to show that every part works.",
        )
    if only_costs:
        pass  # no data, no training
    elif results["data"].get("phantom"):
        yield Note(
            "Simulated data",
            "The subjects are an embedded phantom: simulated vessels, no patient. It shows that the method runs and "
            "how its parts compare on this task; it can neither confirm nor refute what the paper found on patients.",
        )
    else:
        yield Note(
            "Labels as they came",
            "The harness cannot know whether these labels were drawn by an expert or are pseudo-labels made by a "
            "program. A score against a pseudo-label measures agreement with that program and is no result about "
            "vessels.",
        )
    listed = [cell["id"] for cell in results["cells"] if cell["recipe_options"].get("pairing") == "listing_order"]
    if listed and results["data"].get("mispaired"):
        yield Note(
            "Images with the labels of other people",
            f"These cells pair files by their places in a listing, as the paper's code does (D6): "
            f"{plural(results['data']['mispaired'], 'subject')} had another one's label. They show what that costs, "
            "and nothing else.",
            listed,
        )
    if len(results["conditions"]) > 1:
        yield Note(
            "Computed under different conditions",
            "Trainings give other digits on other processors and under other versions, so part of the differences "
            "below may come from these. A run in a folder of its own (--out) computes everything alike.",
            results["conditions"],
        )
    if len(seeds) < LEAST_SEEDS and not only_costs:
        yield Note(
            f"{plural(len(seeds), 'seed')} only",
            f"Training is random. Below {LEAST_SEEDS} seeds nothing is concluded about a training procedure, and "
            "differences between variants may be chance.",
        )
    missing = missing_cells(results)
    coming = [each.cell for each in missing if each.is_to_come]
    if coming:
        yield Note(
            f"{len(coming)} of {len(results['cells'])} cells are still to come",
            "The run goes on. This page is written again as cells finish, and what it says now may change.",
            coming,
        )
    not_done = [each for each in missing if not each.is_to_come]
    if not_done:
        retried = any(each.state != "left out" for each in not_done)
        yield Note(
            f"{len(not_done)} of {len(results['cells'])} cells are missing",
            "What follows is made of the finished ones."
            + " Running the same command again retries the others." * retried,
            [f"{each.cell}: {each.state} ({each.reason})" for each in not_done],
        )


def headline(results: Results, marks: Mapping[str, ArmMark]) -> Headline | None:
    """The comparison that the paper is about, in both regions; the best synthetic label is that of the validation
    subjects."""
    answer = results["answer"]
    if answer is None:
        return None
    regions = [region for region in answer["regions"] if region["real"] is not None]
    best = results["best"]
    return Headline(
        answer["warnings"],
        "Mean overlap with the truth (DSC) on the test subjects, by what the U-Net was trained on:" if regions else "",
        _answer_table(regions, marks, answer["label"], answer["others"]) if regions else None,
        answer["sentences"],
        " ".join([*([_about_choice(best, regions)] if regions and best else []), *([RULE] * bool(results["realism"]))]),
    )


def _answer_table(
    regions: Sequence[AnswerRegion], marks: Mapping[str, ArmMark], best: str, others: Sequence[BestOfKind]
) -> Table:
    """A column per region; rows from what learned nothing to what learned from patients, then gap and shares."""
    columns = [Column(f"DSC, {region['region']}", "", "↑", "higher is better") for region in regions]
    real = next((region["gap"]["real"] for region in regions if region["gap"]), "real")
    rules = [
        Entry("–")
        if region["untrained_dsc"] is None
        else Entry(number(region["untrained_dsc"], 3), region["untrained"] or "")
        for region in regions
    ]
    notes = Footnotes()
    beside = {
        other["label"]: [
            next((each for each in other["regions"] if each["metric"] == region["metric"]), None) for region in regions
        ]
        for other in others
    }
    share = "share of the real gain"
    rows = [
        Row(None, rules, "best rule without learning"),
        *(
            Row(
                marks[label],
                [
                    Entry("–" if each is None or each["synthetic"] is None else number(each["synthetic"], 3))
                    for each in reached
                ],
            )
            for label, reached in beside.items()
        ),
        Row(marks[best], [Entry(number(region["synthetic"], 3)) for region in regions]),
        Row(marks[real], [Entry("–" if (mean := region["real"]) is None else number(mean, 3)) for region in regions]),
        Row(None, [_gap_entry(region) for region in regions], f"real minus {best if others else 'synthetic'}"),
        *(
            Row(
                None,
                [Entry("–") if each is None else share_entry(each["share"], notes) for each in reached],
                f"{share}, {label}",
            )
            for label, reached in beside.items()
        ),
        Row(
            None,
            [share_entry(region["share"], notes) for region in regions],
            f"{share}, {best}" if others else share,
        ),
    ]
    return Table(columns, rows, notes.lines(), "The answer in both regions", "trained on")


def _gap_entry(region: AnswerRegion) -> Entry:
    gap, difference = region["gap"], region["difference"]
    bounds = interval(gap["ci_low"], gap["ci_high"], 3) if gap else ""
    return Entry("–" if difference is None else number(difference, 3), bounds)


def _about_choice(best: Best, regions: Sequence[AnswerRegion]) -> str:
    count = plural(best["validation_subjects"], "validation subject")
    tie = f" (tied there with {join(best['tied'])})" if best["tied"] else ""
    chosen = (
        f"{best['label']} is the best variant on {count}{tie}, by {metric_phrase(best['metric'])}. "
        if len(best["validation"]) > 1
        else ""
    )
    subjects = max((region["gap"]["n"] for region in regions if region["gap"]), default=0)
    paired = f", paired over {plural(subjects, 'test subject')}" if subjects else ""
    return (
        f"{chosen}Brackets: 95 % intervals, of the gap for these trained models{paired}; of the share of the real gain "
        "for seeds and subjects drawn anew, of a single seed for these trained models. The share is (synthetic − rule) "
        "/ (real − rule), with the better rule on the validation subjects: 1 is as good as real patches, 0 no better "
        "than no learning, below 0 worse than that."
    )


def published_rows(results: Results, marks: Mapping[str, ArmMark]) -> Sequence[PublishedRow]:
    """The protocol's reference values with this run's value of the same metric and label."""
    groups = {group["label"]: group["metrics"] for group in results["groups"]}
    rows = []
    for place, reference in results["reference"].items():
        metric, arm = split_side(place)
        decimals, unit = unit_of(metric)
        entry = groups.get(arm, {}).get(metric)
        value, sd = (entry["value"], entry.get("sd")) if entry else (None, None)
        ours = (
            "n/a"
            if value is None
            else number(value, decimals) + (f" ± {deviation(sd, decimals)}" if sd is not None else "")
        )
        phrase = metric_phrase(metric) + (f" ({unit})" if unit else "")
        rows.append(
            PublishedRow(phrase, marks.get(arm), arm, ours, number(reference["value"], decimals), reference["source"])
        )
    return rows
