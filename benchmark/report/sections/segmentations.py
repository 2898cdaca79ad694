"""Test subjects as every label's U-Net segmented them: what was found, missed and invented."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.artifacts.error_maps import FOUND_CODE, INVENTED_CODE, MISSED_CODE, load_error_map
from benchmark.report.pictures import Picture, error_picture, grey_picture, mask_picture
from benchmark.report.sections.figures import first_files, in_plane, run_store
from benchmark.report.sections.text import LabelMark, number
from benchmark.results.run_folder import Run
from vesselgan.data import StoredSubject, VolumeStore

__all__ = ["SegmentedSubject", "Tile", "segmented_subjects"]

MOST_PICTURES = 40  # of segmentations on a page; with more labels fewer subjects are shown
RANKS = {"lowest": 0.0, "median": 0.5, "highest": 1.0}


@dataclass(frozen=True)
class Tile:
    """A picture with the label that it belongs to and a line below it."""

    label: LabelMark
    picture: Picture
    caption: str


@dataclass(frozen=True)
class SegmentedSubject:
    """One test subject: image, truth, and each label's errors over them."""

    subject: str
    rank: str
    image: Picture
    truth: Picture
    tiles: Sequence[Tile]


def segmented_subjects(
    run: Run, results: Mapping[str, Any], marks: Mapping[str, LabelMark]
) -> Sequence[SegmentedSubject]:
    """The test subjects of the lowest, the median and the highest DSC, each under every label's first finished seed.

    The DSC that ranks them is the mean over these cells, so that every label shows the same patients.
    """
    store = run_store(run)
    if store is None:
        return []
    cells = [
        (mark, record["cell"]["id"], path.parent)
        for mark, record, path in first_files(run, marks, "evaluate", "subjects.csv")
    ]
    scores = _scores(results, {cell for _, cell, _ in cells}, set(store.keys("test")))
    shown = []
    for key, rank in _chosen(scores, max(1, MOST_PICTURES // max(1, len(cells)))):
        tiles = list(_tiles(store, store.subject(key), cells, scores[key]))
        if tiles:
            spacing = in_plane(store.subject(key).spacing_mm)
            image = grey_picture(store.image(key).max(axis=2), spacing, f"{key}: image")
            truth = mask_picture(np.asarray(store.label(key).any(axis=2)), spacing, "#ffffff", f"{key}: truth")
            shown.append(SegmentedSubject(key, rank, image, truth, tiles))
    return shown


Scores = dict[str, dict[str, dict[str, float]]]  # subject -> cell -> metric -> value


def _scores(results: Mapping[str, Any], cells: set[str], subjects: set[str]) -> Scores:
    scores: Scores = {}
    for row in results["subjects"]:
        if row["subject"] in subjects and row["cell"] in cells and row["value"] is not None:
            scores.setdefault(row["subject"], {}).setdefault(row["cell"], {})[row["metric"]] = row["value"]
    return scores


def _chosen(scores: Scores, most: int) -> Iterator[tuple[str, str]]:
    """Subjects with what they are chosen for; where only one fits, the median one."""
    means = {key: np.mean([cell["dsc/all"] for cell in cells.values()]) for key, cells in scores.items()}
    ordered = sorted(means, key=lambda key: (means[key], key))
    wanted = RANKS if most >= len(RANKS) else {"median": RANKS["median"]}
    places = {rank: round(share * (len(ordered) - 1)) for rank, share in wanted.items()}
    for place in dict.fromkeys(places.values()) if ordered else ():
        ranks = [rank for rank, at in places.items() if at == place]
        rank = f"{' and '.join(ranks)} DSC" if len(ordered) > 1 else "the only one"
        yield ordered[place], f"{rank}, {number(float(means[ordered[place]]), 3)} on average"


def _tiles(
    store: VolumeStore,
    subject: StoredSubject,
    cells: Sequence[tuple[LabelMark, str, Path]],
    scores: Mapping[str, Mapping[str, float]],
) -> Iterator[Tile]:
    image = store.image(subject.key).max(axis=2)
    voxel_mm = float(np.linalg.norm(subject.spacing_mm))  # its diagonal: as far as neighbours can be
    for mark, cell, folder in cells:
        maps = load_error_map(folder, subject.key)
        if maps is None:
            continue
        codes, distances = maps
        # Without distances there is nothing to be near to: every error is far.
        far = np.where(codes, np.float32(np.inf), np.float32(0)) if distances is None else distances
        missed, invented = (np.where(codes == code, far, 0).max(axis=2) for code in (MISSED_CODE, INVENTED_CODE))
        found = np.asarray((codes == FOUND_CODE).any(axis=2))
        alt = f"{subject.key}, {mark.name}: found, missed and invented vessels"
        picture = error_picture(image, found, missed, invented, 1.001 * voxel_mm, in_plane(subject.spacing_mm), alt)
        yield Tile(mark, picture, _caption(scores.get(cell, {})))


def _caption(scores: Mapping[str, float]) -> str:
    parts = [f"DSC {number(scores['dsc/all'], 3)}"] if "dsc/all" in scores else []
    parts += [f"bAVD {number(scores['bavd_mm/all'], 2)} mm"] if "bavd_mm/all" in scores else []
    return ", ".join(parts)
