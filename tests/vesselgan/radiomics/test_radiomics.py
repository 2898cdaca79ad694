"""Radiomics features and their Fréchet distance beside frd-score 1.0.1, and by their laws.

The peer needs pyradiomics, whose releases cannot be installed any more (frd-score asks for its main branch), so what it
found is kept in golden/frd.npz. Where both are installed, this makes that file anew, and compares every feature on the
way: `PYTHONPATH=tests/helpers python tests/vesselgan/radiomics/test_radiomics.py`.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from paths import TESTS
from scipy import ndimage

import vesselgan.radiomics.images
from vesselgan.errors import InputError
from vesselgan.metrics import frechet_distance, frechet_radiomics_distance
from vesselgan.radiomics import RadiomicsFeatures, feature_names, radiomics_features
from vesselgan.radiomics.matrices import cooccurrences, neighbour_differences, runs, zones

GOLDEN = TESTS / "golden" / "frd.npz"
SPACING = (1.625, 2.0, 1.875)  # exact in single precision; the last slice of 2 mm lies outside the volume
COUNT = 6

Volumes = NDArray[np.int16]


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as kept:
        return dict(kept)


@pytest.fixture(scope="module")
def features(golden: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    extractor = RadiomicsFeatures(SPACING)
    return {name: extractor([golden[name].astype(np.float32)]) for name in ("real", "generated")}


def invented(rows: int, seed: int, shift: float) -> NDArray[np.float64]:
    """Features of every awkward kind: of far scales, constant, constant among real ones only, with a NaN."""
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(rows, 8)) @ rng.normal(size=(8, 8)) * 10.0 ** np.arange(-4, 4) + shift
    made[:, 6] = 16383.0
    made[:, 7] = 5.0 if not shift else rng.normal(size=rows)
    made[3, 2] = np.nan
    return made


@pytest.mark.parametrize("name", ["real", "generated"])
def test_features_are_the_peers(
    golden: dict[str, NDArray[Any]], features: dict[str, NDArray[np.float64]], name: str
) -> None:
    assert list(feature_names()) == sorted(golden["names"])
    expected = golden[f"{name}_features"][:, np.argsort(golden["names"])]
    np.testing.assert_allclose(features[name], expected, rtol=1e-9, atol=1e-9)


def test_voxels_of_2_mm_are_left_as_they_are(golden: dict[str, NDArray[Any]]) -> None:
    ours = radiomics_features(golden["real"][0].astype(np.float32), spacing_mm=(2.0, 2.0, 2.0))
    np.testing.assert_allclose([ours[name] for name in golden["names"]], golden["of_2_mm"], rtol=1e-9, atol=1e-9)


def test_a_flat_background_gives_the_peers_features_too(golden: dict[str, NDArray[Any]]) -> None:
    """Long runs, large zones, and neighbours without difference."""
    ours = radiomics_features(golden["flat"].astype(np.float32), spacing_mm=SPACING)
    np.testing.assert_allclose([ours[name] for name in golden["names"]], golden["of_flat"], rtol=1e-9, atol=1e-9)


def test_the_distance_is_the_peers_on_the_same_volumes(
    golden: dict[str, NDArray[Any]], features: dict[str, NDArray[np.float64]]
) -> None:
    assert frechet_radiomics_distance(**features) == pytest.approx(float(golden["frd"]), rel=1e-6)
    swapped = frechet_radiomics_distance(real=features["generated"], generated=features["real"])
    assert swapped == pytest.approx(float(golden["frd_swapped"]), rel=1e-6)
    assert abs(swapped - frechet_radiomics_distance(**features)) > 0.01  # real is the reference


def test_the_distance_is_the_peers_on_awkward_features(golden: dict[str, NDArray[Any]]) -> None:
    """More samples than features, so that the covariances are regular."""
    value = frechet_radiomics_distance(real=golden["invented_real"], generated=golden["invented_generated"])
    assert value == pytest.approx(float(golden["frd_invented"]), rel=1e-6)


def test_the_distance_by_hand() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(3, 2, (500, 4)), rng.normal(5, 3, (400, 4))
    mean, spread = real.mean(axis=0), real.std(axis=0)
    squared = frechet_distance(real=(real - mean) / spread, generated=(generated - mean) / spread)
    assert frechet_radiomics_distance(real=real, generated=generated) == pytest.approx(np.log(squared), rel=1e-5)


def test_the_distance_does_not_depend_on_units_or_order_of_features_and_grows_with_the_difference() -> None:
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(200, 6)), rng.normal(0.5, 1, (200, 6))
    value = frechet_radiomics_distance(real=real, generated=generated)
    order, scale = rng.permutation(6), 10.0 ** np.arange(6)
    other = frechet_radiomics_distance(real=(real * scale)[:, order], generated=(generated * scale)[:, order])
    assert other == pytest.approx(value, rel=1e-4)
    assert frechet_radiomics_distance(real=real, generated=generated + 1) > value + 1


def test_samples_with_nan_and_features_without_spread_are_left_out() -> None:
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(50, 3)), rng.normal(size=(40, 3))
    value = frechet_radiomics_distance(real=real, generated=generated)
    spoilt = np.vstack([generated, [np.nan, 0, 0]])
    assert frechet_radiomics_distance(real=real, generated=spoilt) == value
    constant = [np.column_stack([rows, np.full(len(rows), 2.0)]) for rows in (real, generated)]
    assert frechet_radiomics_distance(real=constant[0], generated=constant[1]) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (np.zeros(5), np.zeros((5, 2)), r"^real must be \(N, d\) rows of features"),
        (np.zeros((5, 2)), np.full((5, 2), np.nan), r"^generated has 0 samples without NaN features, of 5: needs"),
        (np.zeros((5, 2)), np.ones((5, 2)), r"^real has no feature that varies"),
        (np.zeros((5, 2)), np.ones((5, 3)), r"^generated has 3 features per row, but real has 2"),
    ],
)
def test_features_that_say_nothing_are_refused(real: Any, generated: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_radiomics_distance(real=real, generated=generated)


def test_of_the_intensities_scale_only_the_volumes_own_numbers_remain(golden: dict[str, NDArray[Any]]) -> None:
    volume = golden["real"][0].astype(np.float32)
    one, other = (radiomics_features(each, spacing_mm=SPACING) for each in (volume, volume / 64 - 1))
    changed = {name for name in one if not np.isclose(one[name], other[name], rtol=1e-3)}
    assert changed == {f"diagnostics_Image-original_{what}" for what in ("Mean", "Minimum", "Maximum")}


LEVELS = np.array([[[1, 1, 2], [2, 1, 2]], [[2, 2, 2], [3, 3, 1]]])
FULL = np.ones(LEVELS.shape, bool)


def neighbours(voxel: tuple[int, ...]) -> list[tuple[int, ...]]:
    near = [tuple(np.add(voxel, step)) for step in np.ndindex(3, 3, 3) for step in [np.subtract(step, 1)] if step.any()]
    return [each for each in near if all(0 <= at < n for at, n in zip(each, LEVELS.shape, strict=True))]


def test_cooccurrences_count_every_pair_of_neighbours_both_ways() -> None:
    total = np.zeros((4, 4), int)
    for i, j, counts in cooccurrences(LEVELS, FULL):
        total[i, j] += counts
    expected = np.zeros((4, 4), int)
    for voxel in np.ndindex(LEVELS.shape):
        for near in neighbours(voxel):
            expected[LEVELS[voxel], LEVELS[near]] += 1
    np.testing.assert_array_equal(total, expected)


def test_differences_are_from_the_mean_of_the_neighbours() -> None:
    levels, counts, sums = neighbour_differences(LEVELS, FULL)
    assert levels.tolist() == [1, 2, 3]
    assert counts.tolist() == [4, 6, 2]
    expected = [
        sum(
            abs(level - np.mean([LEVELS[near] for near in neighbours(voxel)]))
            for voxel in np.ndindex(LEVELS.shape)
            if LEVELS[voxel] == level
        )
        for level in levels
    ]
    assert sums == pytest.approx(expected)


def test_zones_are_those_of_labelling_each_level() -> None:
    rng = np.random.default_rng(3)
    levels, mask = rng.integers(1, 5, (7, 6, 5)), rng.random((7, 6, 5)) < 0.9
    level, size = zones(levels, mask)
    expected = []
    for each in range(1, 5):
        labelled, _ = ndimage.label((levels == each) & mask, np.ones((3, 3, 3)))
        expected += [(each, int(n)) for n in np.bincount(labelled.ravel())[1:]]
    assert sorted(zip(level.tolist(), size.tolist(), strict=True)) == sorted(expected)


def test_runs_hold_every_voxel_once_in_every_direction() -> None:
    rng = np.random.default_rng(4)
    levels, mask = rng.integers(1, 3, (6, 5, 7)), rng.random((6, 5, 7)) < 0.9
    counted = runs(levels, mask)
    lengths = np.arange(1, 8)
    for matrix in counted:
        assert (matrix @ lengths).tolist() == np.bincount(levels[mask], minlength=3)[1:].tolist()
    one_line = runs(np.array([[[1, 1, 1, 2, 2, 1]]]), np.array([[[True] * 6]]))
    along = one_line[0]  # the first direction goes along the last axis
    assert along[0].tolist() == [1, 0, 1, 0, 0, 0]
    assert along[1].tolist() == [0, 1, 0, 0, 0, 0]


def test_volumes_that_have_no_features_are_refused_in_one_line() -> None:
    for volume, message in (
        (np.zeros((8, 8, 8), np.float32), r"^volume is constant \(0\): it has no radiomics features$"),
        (np.zeros((8, 8), np.float32), r"^volume must be \(X, Y, Z\), but has shape \(8, 8\)$"),
        (np.zeros((8, 8, 3), np.float32), r"^volume of 16 x 16 x 6 mm: radiomics features need more than 6 mm"),
    ):
        with pytest.raises(ValueError, match=message):
            radiomics_features(volume, spacing_mm=(2.0, 2.0, 2.0))


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(InputError, match=r"^radiomics features need pywt, .*pip install 'vesselgan-benchmark\[frd\]'$"):
        vesselgan.radiomics.images.check_libraries()


def by_peer(folder: Path, volumes: Volumes, spacing: tuple[float, ...] = SPACING) -> dict[str, Any]:
    """Name -> feature of each volume by the peer, as lists; compared with ours."""
    import nibabel
    from frd_score import frd

    frd._ensure_radiomics()
    frd.setVerbosity(60)
    extractor = frd.get_feature_extractor(image_dim=3)
    found = []
    for index, volume in enumerate(volumes):
        path = folder / f"{index:02d}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([*spacing, 1.0])), path)  # type: ignore[attr-defined,no-untyped-call]
        found.append(frd.process_image_mask_pair((path, None), feature_extractor=extractor)[1])
        ours = radiomics_features(volume.astype(np.float32), spacing_mm=spacing)
        for name, value in found[-1].items():
            assert ours[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
    return {name: np.array([each[name] for each in found]) for name in found[0]}


def make_golden() -> None:
    """Volumes, and what the peer finds; run where frd-score and pyradiomics are installed."""
    import tempfile

    from frd_score import compute_frd, frd

    rng = np.random.default_rng(0)
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        root, folders = Path(name), {}
        for side, blur in (("real", 1.0), ("generated", 1.2)):
            noise = rng.normal(size=(COUNT, 18, 16, 12))
            smooth = np.stack([ndimage.gaussian_filter(each, blur) for each in noise])
            values = 100 + 40 * smooth / smooth.std()
            kept[side] = np.where(values > 190, values * 1.6, values).round().astype(np.int16)
            folders[side] = root / side
            folders[side].mkdir()
            features = by_peer(folders[side], kept[side])
            kept["names"], kept[f"{side}_features"] = list(features), np.column_stack(list(features.values()))
        paths = [str(folders["real"]), str(folders["generated"])]
        kept["frd"] = compute_frd(paths, num_workers=1)
        kept["frd_swapped"] = compute_frd(paths[::-1], num_workers=1)
        (root / "more").mkdir()
        of_2_mm = by_peer(root / "more", kept["real"][:1], (2.0, 2.0, 2.0))
        kept["of_2_mm"] = np.concatenate(list(of_2_mm.values()))
        kept["flat"] = np.zeros((18, 16, 12), np.int16)
        kept["flat"][6:9, :, 5:7] = 300
        kept["flat"][12, 4, 3] = 150
        kept["of_flat"] = np.concatenate(list(by_peer(root / "more", kept["flat"][None]).values()))
    kept["invented_real"], kept["invented_generated"] = invented(60, 1, 0.0), invented(50, 2, 0.4)
    sides = iter((kept["invented_real"], kept["invented_generated"]))
    frd.compute_features = lambda **_: (next(sides).copy(), [dict.fromkeys("abcdefgh", 0.0)], [])
    means, covariances, _, _ = frd.calculate_feature_statistics(
        [["real"], ["generated"]], "zscore", [0, 1], None, norm_ref="d1", frd_version="v1"
    )
    kept["frd_invented"] = np.log(frd.calculate_frechet_distance(means[0], covariances[0], means[1], covariances[1]))
    np.savez_compressed(GOLDEN, **kept)


if __name__ == "__main__":
    make_golden()
