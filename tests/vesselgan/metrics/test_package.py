"""The package as a whole: what it exports, imports and refuses."""

import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT

from vesselgan import metrics

DISTRIBUTION_METRICS = [
    metrics.frechet_distance,
    metrics.frechet_distance_infinite,
    metrics.kernel_distance,
    metrics.prd_curve,
    metrics.precision_recall_density_coverage,
]


def normal(count, width, seed):
    return np.random.default_rng(seed).standard_normal((count, width))


BAD_FEATURES = {
    "real must be": (np.zeros(10), normal(10, 3, 0)),
    "generated must be": (normal(10, 3, 0), normal(1, 3, 0)),
    "generated must be \\(N, d\\)": (normal(10, 3, 0), np.zeros((10, 0))),
    "generated has 4 features per row, but real has 3": (normal(10, 3, 0), normal(10, 4, 0)),
    "real holds NaN": (np.full((10, 3), np.nan), normal(10, 3, 0)),
    "generated holds NaN or infinite": (normal(10, 3, 0), np.full((10, 3), np.inf)),
    "real must hold real numbers": (np.zeros((10, 3), complex), normal(10, 3, 0)),
}


@pytest.mark.parametrize("message", BAD_FEATURES)
@pytest.mark.parametrize("metric", [*DISTRIBUTION_METRICS, metrics.prd_curves, metrics.distribution_scores])
def test_bad_features_are_refused_in_one_line_that_names_them(metric, message):
    real, generated = BAD_FEATURES[message]
    with pytest.raises(ValueError, match=f"^{message}.*$") as error:
        metric(real=real, generated=generated)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("metric", [*DISTRIBUTION_METRICS, metrics.prd_curves, metrics.distribution_scores])
def test_real_and_generated_cannot_be_passed_by_position(metric):
    with pytest.raises(TypeError):
        metric(normal(10, 3, 0), normal(10, 3, 1))


@pytest.mark.parametrize("metric", DISTRIBUTION_METRICS)
def test_features_may_be_tensors_and_are_left_as_they_were(metric):
    import torch

    real, generated = normal(50, 3, 0).astype(np.float32), normal(50, 3, 1).astype(np.float32)
    before = real.copy(), generated.copy()
    from_arrays = metric(real=real, generated=generated)
    from_tensors = metric(real=torch.from_numpy(real), generated=torch.from_numpy(generated))
    np.testing.assert_equal(from_tensors, from_arrays)
    np.testing.assert_equal((real, generated), before)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros(10), r"features must be \(N, d\) with N >= 2 rows"),
        (np.full((10, 3), np.nan), "features holds NaN or infinite features"),
        (np.full((10, 3), "a"), "features must hold real numbers"),
    ],
)
def test_bad_features_of_one_set_are_refused(features, message):
    for metric in (metrics.feature_statistics, lambda rows: metrics.real_floor(rows, np.arange(10))):
        with pytest.raises(ValueError, match=f"^{message}.*$"):
            metric(features)


def test_real_floor_refuses_subjects_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^subjects must name one group for each of the 20 rows"):
        metrics.real_floor(normal(20, 3, 0), np.arange(19))


def test_tensors_that_need_gradients_or_are_of_half_precision_are_taken():
    import torch

    features = torch.from_numpy(normal(40, 3, 0)).requires_grad_()
    value = metrics.frechet_distance(real=features, generated=features.detach() * 2)
    assert value == metrics.frechet_distance(real=normal(40, 3, 0), generated=normal(40, 3, 0) * 2)
    halves = features.detach().to(torch.bfloat16)
    assert metrics.kernel_distance(real=halves, generated=halves) == metrics.kernel_distance(
        real=halves.float().numpy(), generated=halves.float().numpy()
    )
    mask = torch.zeros(5, 5, 5, dtype=torch.bool)
    mask[1:4, 2, 2] = True
    assert metrics.betti_numbers(mask) == (1, 0, 0)
    assert metrics.centreline_dice(mask, mask.to(torch.uint8)) == 1
    assert metrics.segmentation_scores(mask, mask)["all"]["dsc"] == 1


def test_all_public_names_exist_and_the_contract_is_among_them():
    assert sorted(metrics.__all__) == sorted(set(metrics.__all__))
    assert all(hasattr(metrics, name) for name in metrics.__all__)
    contract = {
        "dice", "average_hausdorff", "balanced_average_hausdorff", "frechet_distance",
        "kernel_distance", "prd_curve", "prd_from_histograms", "max_f_beta_pair", "prd_area",
        "precision_recall_density_coverage", "hausdorff_95", "centreline_dice", "betti_numbers",
    }  # fmt: skip
    assert contract <= set(metrics.__all__)


def test_importing_the_metrics_imports_neither_torch_nor_scikit_image():
    code = "import sys, vesselgan.metrics; sys.exit(bool({'torch', 'skimage'} & set(sys.modules)))"
    root = ROOT
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False, timeout=60).returncode == 0
