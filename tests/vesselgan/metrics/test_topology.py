"""Centrelines and Betti numbers: agreement with the golden cases, and shapes whose topology is plain to see."""

import math

import numpy as np
import pytest
from golden_metrics import EXPECTED as GOLDEN
from golden_metrics import cases, golden_masks
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.measure import euler_number
from skimage.morphology import skeletonize

from vesselgan import metrics

EXPECTED = {name: case["expected"] for name, case in GOLDEN["masks"].items()}
BETTI = "topology (cc3d 26/6 + scikit-image euler_number)"
CENTRELINE = "clDice (scikit-image skeletonize, Shit et al. definition)"
SHAPE = (6, 5, 4)
masks = arrays(bool, SHAPE)
few_examples = settings(max_examples=50, deadline=None)


def box(shape=(12, 12, 12), low=1, high=5):
    mask = np.zeros(shape, bool)
    mask[(slice(low, high),) * len(shape)] = True
    return mask


def betti_of_cells(mask):
    """Betti numbers over GF(2) from the ranks of the boundary maps of the union of closed cubes: the definition."""
    cells = [set() for _ in range(4)]  # by dimension; coordinates doubled: even is a point, odd an interval
    for voxel in np.argwhere(mask):
        for offset in np.ndindex(3, 3, 3):
            cell = tuple(int(2 * place + step) for place, step in zip(voxel, offset, strict=True))
            cells[sum(place % 2 for place in cell)].add(cell)
    ranks = [0]
    for dimension in (1, 2, 3):
        faces = {cell: bit for bit, cell in enumerate(sorted(cells[dimension - 1]))}
        pivots = {}  # leading bit -> reduced row, rows as integers of bits
        for cell in cells[dimension]:
            row = 0
            for axis in (axis for axis in range(3) if cell[axis] % 2):
                for step in (-1, 1):
                    row ^= 1 << faces[(*cell[:axis], cell[axis] + step, *cell[axis + 1 :])]
            while row and row.bit_length() in pivots:
                row ^= pivots[row.bit_length()]
            if row:
                pivots[row.bit_length()] = row
        ranks.append(len(pivots))
    ranks.append(0)
    return tuple(len(cells[k]) - ranks[k] - ranks[k + 1] for k in range(3))


# ------------------------------------------------------------------ Betti numbers


@pytest.mark.parametrize("side", ["G", "S"])
@pytest.mark.parametrize("name", cases.MASK_CASES)
def test_betti_numbers_equal_the_golden_ones(name, side):
    truth, prediction, _ = golden_masks(name)
    expected = EXPECTED[name][BETTI][side]
    values = metrics.betti_numbers(truth if side == "G" else prediction)
    assert values == (expected["b0"], expected["b1"], expected["b2"])
    assert values[0] - values[1] + values[2] == expected["euler"]


@settings(max_examples=15, deadline=None)
@given(arrays(bool, (4, 4, 3)))
def test_betti_numbers_equal_those_of_the_cell_complex(mask):
    assert metrics.betti_numbers(mask) == betti_of_cells(mask)


@few_examples
@given(masks)
def test_betti_numbers_equal_those_of_scikit_image_and_labelling(mask):
    b0, b1, b2 = metrics.betti_numbers(mask)
    assert b0 == ndimage.label(mask, np.ones((3, 3, 3)))[1]
    assert b2 == ndimage.label(~np.pad(mask, 1))[1] - 1
    assert b0 - b1 + b2 == euler_number(mask, connectivity=3)
    assert min(b0, b1, b2) >= 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_betti_numbers_of_noise_equal_those_of_scikit_image(share, seed):
    mask = cases.gen_random((17, 14, 11), share, seed)
    b0, b1, b2 = metrics.betti_numbers(mask)
    assert b0 - b1 + b2 == euler_number(mask, connectivity=3)


def test_rings_have_a_tunnel_and_shells_a_cavity():
    ring, shell = cases.gen_ring([20, 20, 8], 6, 2), cases.gen_shell([15, 15, 15], 6, 4)
    assert metrics.betti_numbers(ring) == (1, 1, 0)
    assert metrics.betti_numbers(shell) == (1, 0, 1)
    both = np.zeros((36, 20, 15), bool)
    both[:20, :, :8], both[21:, :15] = ring, shell
    assert metrics.betti_numbers(both) == (2, 1, 1)


def test_what_opens_at_the_border_is_no_cavity_and_corners_connect():
    bowl = np.ones((5, 5, 5), bool)
    bowl[1:4, 1:4, 1:] = False
    assert metrics.betti_numbers(bowl) == (1, 0, 0)
    assert metrics.betti_numbers(np.eye(4, dtype=bool)[:, :, None] & np.eye(4, dtype=bool)[:, None, :]) == (1, 0, 0)
    assert metrics.betti_numbers(np.zeros((3, 3, 3), bool)) == (0, 0, 0)
    assert metrics.betti_numbers(np.ones((3, 1, 2), bool)) == (1, 0, 0)


@few_examples
@given(masks, st.permutations([0, 1, 2]))
def test_betti_numbers_depend_on_neither_axes_layout_nor_dtype(mask, axes):
    value = metrics.betti_numbers(mask)
    assert metrics.betti_numbers(mask.transpose(axes)) == value
    assert metrics.betti_numbers(np.asfortranarray(mask).astype(np.uint8)) == value
    assert metrics.betti_numbers(np.repeat(mask, 2, axis=0)[::2].astype(np.int64)) == value


# ------------------------------------------------------------------ centreline Dice


def eaten(mask):
    """Voxels of the pieces of which scikit-image's thinning leaves nothing."""
    line, lost = skeletonize(mask), np.zeros_like(mask)
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    for piece in range(1, count + 1):
        lost |= (pieces == piece) & ~(line & (pieces == piece)).any()
    return lost


@pytest.mark.parametrize("name", cases.MASK_CASES)
def test_centreline_dice_equals_the_golden_value_and_is_a_number_where_that_is_none(name):
    truth, prediction, _ = golden_masks(name)
    expected = EXPECTED[name][CENTRELINE]["clDice"]
    if not (truth.any() and prediction.any()):
        with pytest.raises(ValueError, match="empty: there is no centreline"):
            metrics.centreline_dice(truth, prediction)
        assert math.isnan(metrics.centreline_dice(truth, prediction, empty="nan"))
        assert metrics.centreline_dice(truth, prediction, empty="diagonal") == 0
        assert metrics.centreline_dice(truth, prediction, empty="inf") == 0
        return
    value = metrics.centreline_dice(truth, prediction)
    assert 0 <= value <= 1
    if expected != "nan" and not eaten(truth).any() and not eaten(prediction).any():
        assert value == pytest.approx(expected, abs=1e-9)
    for mask, key in ((truth, "n_skel_G"), (prediction, "n_skel_S")):
        assert metrics.centreline(mask).sum() == EXPECTED[name][CENTRELINE][key] + eaten(mask).sum()


def test_centreline_dice_is_zero_where_no_centreline_meets_the_other_mask():
    truth, prediction, _ = golden_masks("disjoint_boxes")
    assert metrics.centreline_dice(truth, prediction) == 0


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("share", [0.02, 0.06, 0.2])
def test_centreline_dice_of_noise_equals_its_definition(share, seed):
    truth, prediction = (cases.gen_random((16, 15, 14), share, 10 * seed + side) for side in (0, 1))
    truth_line, prediction_line = (skeletonize(mask) | eaten(mask) for mask in (truth, prediction))
    precision, sensitivity = truth[prediction_line].mean(), prediction[truth_line].mean()
    expected = 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0
    assert metrics.centreline_dice(truth, prediction) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [4, 6, 8])
def test_a_block_that_thinning_eats_up_stands_for_its_own_centreline(size):
    mask = box(high=1 + size)
    assert not skeletonize(mask).any()  # the pitfall
    np.testing.assert_array_equal(metrics.centreline(mask), mask)
    assert metrics.centreline_dice(mask, mask) == 1
    assert metrics.centreline_dice(mask, box(high=1 + size // 2)) > 0


@pytest.mark.parametrize("mask", [np.ones((6, 6, 6), bool), np.ones((1, 7, 1), bool), box(high=2), box(low=0, high=12)])
def test_masks_that_touch_the_border_or_are_one_voxel_agree_with_themselves(mask):
    assert metrics.centreline_dice(mask, mask) == 1


@few_examples
@given(masks.filter(np.any), masks.filter(np.any))
def test_centreline_dice_is_symmetric_a_share_and_one_for_a_mask_and_itself(truth, prediction):
    value = metrics.centreline_dice(truth, prediction)
    assert 0 <= value <= 1
    assert metrics.centreline_dice(prediction, truth) == pytest.approx(value)
    assert metrics.centreline_dice(truth, truth) == 1
    assert not (metrics.centreline(truth) & ~truth).any()
    assert metrics.centreline_dice(np.asfortranarray(truth), prediction.astype(np.uint8)) == value


def test_a_centreline_of_an_empty_mask_is_empty():
    assert not metrics.centreline(np.zeros((3, 4, 5), bool)).any()


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("function", [metrics.betti_numbers, metrics.centreline])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((3, 3), bool), r"mask must be an \(X, Y, Z\) volume, but has shape \(3, 3\)"),
        (np.ones((3, 3, 3)), "mask must be a binary mask of booleans or integers, but has dtype float64"),
        (np.full((3, 3, 3), 2), "mask must be a binary mask, but holds values other than 0 and 1"),
    ],
)
def test_a_bad_mask_is_refused(function, mask, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        function(mask)


def rod_and_speck(length=40):
    """Two pieces: a rod two voxels wide, which thinning eats whole, and a voxel, which it leaves."""
    mask = np.zeros((length + 8, 12, 12), bool)
    mask[2 : 2 + length, 4:6, 4:6] = True
    mask[-2, 9, 9] = True
    return mask


def test_a_piece_that_thinning_eats_stands_for_itself():
    mask = rod_and_speck()
    assert skeletonize(mask, method="lee").sum() == 1, "the speck alone"
    assert metrics.centreline(mask).sum() == mask.sum()
    shifted = mask.copy()
    shifted[-2, 9, 9], shifted[-2, 2, 2] = False, True  # the speck lies elsewhere, the vessel is the same
    assert metrics.dice(mask, shifted) == pytest.approx(0.994, abs=1e-3)
    assert metrics.centreline_dice(mask, shifted) == pytest.approx(160 / 161)
    speck = np.zeros_like(mask)
    speck[-2, 9, 9] = True
    assert metrics.dice(mask, speck) == pytest.approx(0.012, abs=1e-3)
    assert metrics.centreline_dice(mask, speck) == pytest.approx(2 / 161 / (1 + 1 / 161))


def test_the_radius_of_a_rod_is_no_specks():
    rod = rod_and_speck()
    rod[-2, 9, 9] = False
    alone, together = (metrics.label_statistics([mask]).radius for mask in (rod, rod_and_speck()))
    assert alone.mean() == pytest.approx(0.5)
    assert len(together) == len(alone) + 1
