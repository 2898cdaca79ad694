"""Test subjects as every label's U-Net segmented them: what was found, missed and invented."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.artifacts.error_maps import FOUND_CODE, INVENTED_CODE, MISSED_CODE, load_error_map
from benchmark.artifacts.roles import Role
from benchmark.report.pictures import Picture, error_picture, grey_picture, mask_picture, reduced
from benchmark.report.sections.figures import first_files, in_plane, run_store
from benchmark.report.sections.text import ArmMark, number
from benchmark.results.format import RankedSubject, Results
from benchmark.results.run_folder import CellRecord, Run
from benchmark.words import join
from vesselgan.data import StoredSubject, VolumeStore

__all__ = ["SegmentedSubject", "Tile", "segmented_subjects"]

MOST_PICTURES = 40  # of segmentations on a page; with more labels fewer subjects are shown
RANKS = {"lowest": 0.0, "median": 0.5, "highest": 1.0}


@dataclass(frozen=True)
class Tile:
    """A picture with the arm that it belongs to and lines below it."""

    arm: ArmMark
    picture: Picture
    caption: Sequence[str]


@dataclass(frozen=True)
class SegmentedSubject:
    """One test subject: image, truth, and each arm's errors over them."""

    subject: str
    rank: str
    image: Picture
    truth: Picture
    tiles: Sequence[Tile]


def segmented_subjects(run: Run, results: Results, marks: Mapping[str, ArmMark]) -> Sequence[SegmentedSubject]:
    """The test subjects of the lowest, the median and the highest DSC, each under every arm's first finished seed.

    The DSC that ranks them is the mean over these cells, so that every arm shows the same subjects.
    """
    store = run_store(run)
    if store is None:
        return []
    cells = [(mark, record) for mark, record, _ in first_files(run, marks, Role.EVALUATE, "subjects.csv")]
    scores = _scores(results)
    shown = []
    for key, rank in _chosen(results["subject_ranking"], max(1, MOST_PICTURES // max(1, len(cells)))):
        tiles = list(_tiles(run, store, store.subject(key), cells, scores))
        if tiles:
            spacing = in_plane(store.subject(key).spacing_mm)
            image = grey_picture(reduced(store.image(key).max(axis=2)), spacing, f"{key}: image")
            truth = mask_picture(
                reduced(np.asarray(np.any(store.label(key), axis=2))), spacing, "#ffffff", f"{key}: truth"
            )
            shown.append(SegmentedSubject(key, rank, image, truth, tiles))
    return shown


Scores = Mapping[tuple[str, str], Mapping[str, float]]  # cell, subject -> metric -> value


def _scores(results: Results) -> Scores:
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in results["subjects"]:
        if row["value"] is not None:
            scores.setdefault((row["cell"], row["subject"]), {})[row["metric"]] = row["value"]
    return scores


def _chosen(ranking: Sequence[RankedSubject], most: int) -> Iterator[tuple[str, str]]:
    """Subjects with what they are chosen for; where only one fits, the median one."""
    wanted = RANKS if most >= len(RANKS) else {"median": RANKS["median"]}
    places = {rank: round(share * (len(ranking) - 1)) for rank, share in wanted.items()}
    for place in dict.fromkeys(places.values()) if ranking else ():
        ranks = [rank for rank, at in places.items() if at == place]
        rank = f"{join(ranks)} DSC" if len(ranking) > 1 else "the only one"
        yield ranking[place]["subject"], f"{rank}, {number(ranking[place]['value'], 3)} on average"


def _tiles(
    run: Run,
    store: VolumeStore,
    subject: StoredSubject,
    cells: Sequence[tuple[ArmMark, CellRecord]],
    scores: Scores,
) -> Iterator[Tile]:
    image = reduced(store.image(subject.key).max(axis=2))
    voxel_mm = float(np.linalg.norm(subject.spacing_mm))  # its diagonal: as far as neighbours can be
    for mark, record in cells:
        name = f"{subject.key}.nii.gz"
        errors, distances = (run.file(record, Role.EVALUATE, f"{kind}/{name}") for kind in ("errors", "distances"))
        if errors is None:
            continue
        codes, far_mm = load_error_map(errors, distances)
        # Without distances there is nothing to be near to: every error is far.
        far = np.where(codes, np.float32(np.inf), np.float32(0)) if far_mm is None else far_mm
        missed, invented = (
            reduced(np.where(codes == code, far, 0).max(axis=2)) for code in (MISSED_CODE, INVENTED_CODE)
        )
        found = reduced((codes == FOUND_CODE).any(axis=2))
        alt = f"{subject.key}, {mark.name}: found, missed and invented vessels"
        picture = error_picture(image, found, missed, invented, 1.001 * voxel_mm, in_plane(subject.spacing_mm), alt)
        yield Tile(mark, picture, _caption(scores.get((record["cell"]["id"], subject.key), {})))


def _caption(scores: Mapping[str, float]) -> Sequence[str]:
    """A line per region, the brain's first, as in the answer."""
    lines = []
    for region, name in (("intracranial", "intracranial"), ("all", "all vessels")):
        parts = [f"DSC {number(scores[dsc], 3)}"] if (dsc := f"dsc/{region}") in scores else []
        parts += [f"bAVD {number(scores[bavd], 2)} mm"] if (bavd := f"bavd_mm/{region}") in scores else []
        if parts:
            lines.append(f"{name}: {', '.join(parts)}")
    return lines
