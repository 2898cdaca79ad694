"""What is typical of a generator: patches of median quality, not the best ones."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.artifacts.pairs import decoded
from benchmark.artifacts.reading import map_array, read_arrays
from benchmark.artifacts.roles import Role
from benchmark.results.format import MedianPatches
from benchmark.results.run_folder import CellRecord, Run
from benchmark.scoring.patch_sets import standardised
from vesselgan.metrics import block_means, mirrored, nearest_training

__all__ = ["LOOKED_AT", "median_patches_of"]

LOOKED_AT = 200  # patches of each kind: a median of more is hardly another

Floats = NDArray[np.float64]


def median_patches_of(run: Run, arm: str) -> MedianPatches | None:
    """Of the arm's first seed whose pairs are made and whose reference is there; None without one.

    A patch's quality is its distance to the nearest training patch, between their block means, each patch with mean 0
    and SD 1, mirrored or not.
    """
    found = (_of_cell(run, record) for record in run.cells if record["cell"]["label"] == arm)
    return next((each for each in found if each), None)


def _of_cell(run: Run, record: CellRecord) -> MedianPatches | None:
    pairs = run.file(record, Role.PAIRS, "images.npy")
    train, held_out = (run.file(record, Role.REFERENCE, f"{name}.npz") for name in ("train", "held_out"))
    if pairs is None or train is None or held_out is None:
        return None
    near, far = (read_arrays(path, ["indices", "blocks"]) for path in (train, held_out))
    training = standardised(near["blocks"]).reshape(len(near["blocks"]), -1)
    rows = np.sort(np.random.default_rng(0).permutation(len(far["blocks"]))[:LOOKED_AT])
    real, real_distance, _ = _median(far["blocks"][rows], training)
    synthetic, distance, nearest = _median(block_means(decoded(map_array(pairs)[:LOOKED_AT])), training)
    cell = record["cell"]
    return {
        "label": cell["label"],
        "cell": cell["id"],
        "seed": cell["seed"],
        "real": {"row": int(far["indices"][rows[real]]), "distance": real_distance},
        "synthetic": {"row": synthetic, "distance": distance},
        "nearest": {"row": int(near["indices"][nearest])},
    }


def _median(blocks: NDArray[Any], training: Floats) -> tuple[int, float, int]:
    """Which patch has the median distance to the training patches, that distance, and which one is nearest to it."""
    found = nearest_training(mirrored(standardised(blocks)), training)
    index = int(np.argsort(found.distances, kind="stable")[(len(found.distances) - 1) // 2])
    return index, float(found.distances[index]), int(found.rows[index])
