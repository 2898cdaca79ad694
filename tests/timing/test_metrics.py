"""Speed and memory of the metrics against their peers, interleaved in one run, one thread on either side.

`pytest --benchmark tests/timing/test_metrics.py`; what needs torch-fidelity (extra `peers`) is skipped without it.
Ratios are peer over ours, round by round.
"""

import functools
import importlib
import statistics
import time
import tracemalloc
import warnings

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import threadpoolctl
import torch
from scipy import ndimage

from vesselgan import metrics
from vesselgan.metrics.kmeans import kmeans_labels

ROUNDS = 5
SHAPE = (312, 384, 127)
FOREGROUND = 0.01


def void(_):
    """What a setup hook returns pytest-benchmark takes for arguments."""


def interleave(benchmark, ours, peer, *, rounds=ROUNDS, **facts):
    """Time both by turns, one thread each; returns the ratios and stores them with their spread."""
    ours_s, peer_s = [], []

    def timed(function, seconds):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)

    with threadpoolctl.threadpool_limits(1):
        ours(), peer()  # warm up: lazy imports, first allocations
        benchmark.pedantic(
            lambda: timed(ours, ours_s), setup=lambda: void(timed(peer, peer_s)), rounds=rounds, iterations=1
        )
    assert len(ours_s) == len(peer_s) == rounds
    ratios = [slow / quick for slow, quick in zip(peer_s, ours_s, strict=True)]
    benchmark.extra_info.update(
        ratio=statistics.median(ratios),
        ratio_lowest=min(ratios),
        ratio_highest=max(ratios),
        ours_s=statistics.median(ours_s),
        peer_s=statistics.median(peer_s),
        threads=1,
        rounds=rounds,
        **facts,
    )
    return statistics.median(ratios)


# ------------------------------------------------------------------ masks


def densest(field):
    """The share FOREGROUND of voxels where the field is largest."""
    place = int((1 - FOREGROUND) * field.size)
    return field > np.partition(field.ravel(), place)[place]


@functools.cache
def volume_pair(kind):
    """Truth and prediction of SHAPE, each with 1 % foreground."""
    rng = np.random.default_rng(0)
    if kind == "voxels at random":
        return rng.random(SHAPE) < FOREGROUND, rng.random(SHAPE) < FOREGROUND
    if kind == "blobs":  # of Dice 0.4: a bad prediction
        first, second = (ndimage.gaussian_filter(rng.standard_normal(SHAPE).astype(np.float32), 2) for _ in range(2))
        return densest(first), densest(0.8 * first + 0.6 * second)
    lines = np.ones(SHAPE, bool)
    for _ in range(120):  # vessels that wander through the volume
        point, step = rng.uniform(0, SHAPE), rng.standard_normal(3)
        for _ in range(250):
            step += 0.15 * rng.standard_normal(3)
            step /= np.linalg.norm(step)
            point = point + step
            if (point < 0).any() or (point >= SHAPE).any():
                break
            lines[tuple(point.astype(int))] = False
    distances = ndimage.distance_transform_edt(lines).astype(np.float32)
    vessels = densest(-distances - 1e-3 * rng.random(SHAPE, np.float32))  # which breaks ties
    return vessels, np.roll(vessels, 1, axis=0) | (rng.random(SHAPE) < 0.0002)


# Vessels are what the target is about. The others are near the worst: most voxels are false and not beside the other
# mask, so each is a query to the tree, and there is little to save.
TARGETS = {"vessels": 7, "blobs": 4, "voxels at random": 4}


@pytest.mark.benchmark(group="balanced average Hausdorff, 312x384x127, 1 % foreground, against SimpleITK's average")
@pytest.mark.parametrize("kind", TARGETS)
def test_balanced_average_hausdorff_is_several_times_as_fast_as_simpleitk(benchmark, kind, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    truth, prediction = volume_pair(kind)
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (truth, prediction)]
    peer = sitk.HausdorffDistanceImageFilter()
    peer.SetNumberOfThreads(1)
    ratio = interleave(
        benchmark,
        lambda: metrics.balanced_average_hausdorff(truth, prediction),
        lambda: peer.Execute(*images),
        rounds=3,
        foreground=float(truth.mean()),
    )
    assert peer.GetAverageHausdorffDistance() == pytest.approx(metrics.average_hausdorff(truth, prediction), abs=1e-9)
    assert ratio > TARGETS[kind]


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", TARGETS)
def test_balanced_average_hausdorff_needs_little_memory(benchmark, kind):
    truth, prediction = volume_pair(kind)
    tracemalloc.start()
    benchmark.pedantic(metrics.balanced_average_hausdorff, (truth, prediction), rounds=1, iterations=1)
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    benchmark.extra_info.update(peak_mib=peak_mib, measured_by="tracemalloc: numpy's arrays, not the tree's C++ nodes")
    assert peak_mib < 64


# ------------------------------------------------------------------ features


def features(count, width, seed):
    return np.random.default_rng(seed).standard_normal((count, width)) * (1 + np.arange(width)) ** -0.25


@pytest.mark.benchmark(group="Fréchet distance against torch-fidelity")
@pytest.mark.parametrize(("width", "rounds"), [(512, ROUNDS), (2048, 2)])
def test_frechet_distance_is_twice_as_fast_as_torch_fidelity(benchmark, width, rounds):
    peer = torch_fidelity_fid()
    torch.set_num_threads(1)
    real, generated = features(2000, width, 0), features(2000, width, 1)
    tensors = torch.from_numpy(real), torch.from_numpy(generated)

    def theirs():
        return peer.fid_statistics_to_metric(*map(peer.fid_features_to_statistics, tensors), verbose=False)

    def ours():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", metrics.SmallSampleWarning)  # 2000 rows of 2048 columns
            return metrics.frechet_distance(real=real, generated=generated)

    ratio = interleave(benchmark, ours, theirs, rounds=rounds, count=2000, width=width)
    assert ours() == pytest.approx(theirs()[peer.KEY_METRIC_FID], rel=1e-3)
    assert ratio > 2


def torch_fidelity_fid():
    """torch-fidelity's module; it imports torchvision, which may be missing or not fit the torch that is there."""
    try:
        return importlib.import_module("torch_fidelity.metric_fid")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torch-fidelity cannot be imported: {error}")


def upstream_prd_inertias(real, generated, *, clusters, runs):
    """The loop of prd_score.py (Sajjadi et al. 2018): one mini-batch k-means a run; the inertia of each."""
    from sklearn import cluster  # slow to import, and every run of the tests collects this file

    union = np.vstack([generated, real])
    inertias = []
    for run in range(runs):
        labels = cluster.MiniBatchKMeans(n_clusters=clusters, n_init=10, random_state=run).fit(union).labels_
        histograms = [
            np.histogram(half, bins=clusters, range=(0, clusters), density=True)[0]
            for half in (labels[: len(generated)], labels[len(generated) :])
        ]
        metrics.prd_from_histograms(reference=histograms[1], evaluated=histograms[0])
        inertias.append(inertia(union, labels))
    return inertias


def inertia(points, labels):
    members = [points[labels == cluster] for cluster in np.unique(labels)]
    return sum(((rows - rows.mean(axis=0)) ** 2).sum() for rows in members)


@pytest.mark.benchmark(group="PRD, 2000x512, 20 clusters, 10 runs, against the authors' loop")
def test_prd_is_many_times_as_fast_as_the_authors_loop_and_clusters_as_well(benchmark):
    real, generated = features(2000, 512, 0), features(2000, 512, 1)
    ratio = interleave(
        benchmark,
        lambda: metrics.prd_curve(real=real, generated=generated, clusters=20, runs=10),
        lambda: upstream_prd_inertias(real, generated, clusters=20, runs=10),
        rounds=3,
    )
    union = np.vstack([real, generated])
    labels = kmeans_labels(union, clusters=20, runs=10, rng=np.random.default_rng(0))
    ours = np.mean([inertia(union, run) for run in labels.T])
    theirs = np.mean(upstream_prd_inertias(real, generated, clusters=20, runs=10))
    benchmark.extra_info.update(inertia_over_peer=ours / theirs)
    assert ours < 1.01 * theirs
    assert ratio > 15


@pytest.mark.benchmark(group="distances of n samples, d = 256")
def test_time_by_number_of_samples_is_printed(benchmark, capsys):
    sizes = (500, 1000, 2000, 5000, 10_000, 20_000)
    rng = np.random.default_rng(0)
    real, generated, unseen = (rng.standard_normal((sizes[-1], 256)) for _ in range(3))
    works = {
        "FID": lambda n: metrics.frechet_distance(real=real[:n], generated=generated[:n]),
        "KID": lambda n: metrics.kernel_distance(real=real[:n], generated=generated[:n]),
        "PRD": lambda n: metrics.prd_curve(real=real[:n], generated=generated[:n], clusters=20, runs=10),
        "PRDC": lambda n: metrics.precision_recall_density_coverage(real=real[:n], generated=generated[:n]),
        "audit": lambda n: metrics.memorisation_audit(training=real[:n], held_out=unseen[:n], generated=generated[:n]),
    }
    lines = ["seconds for n =  " + "".join(f"{n:>9,}" for n in sizes) + "   growth from 2,000 to 20,000"]
    for name, work in works.items():
        seconds = []
        for n in sizes:
            start = time.perf_counter()
            work(n)
            seconds.append(time.perf_counter() - start)
        growth = seconds[-1] / seconds[2]
        lines.append(f"{name:16s}" + "".join(f"{value:9.3f}" for value in seconds) + f"   {growth:6.1f}")
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    benchmark.extra_info["table"] = lines
    benchmark.pedantic(lambda: None, rounds=1)
