"""Features of intensities and of the matrices of grey levels, by pyradiomics' names.

Formulas: Zwanenburg et al. 2020, Radiology 295:328 (the image biomarker standard) and the documentation of pyradiomics;
of co-occurrences they are written here in the distributions of i + j and i - j, which give the same values from far
fewer numbers.
"""

import numpy as np
from numpy.typing import NDArray

from vesselgan.radiomics.matrices import DIRECTIONS, Levels, Mask, cooccurrences, neighbour_differences, runs, zones

__all__ = ["cooccurrence_features", "difference_features", "first_order", "run_features", "zone_features"]

Floats = NDArray[np.float64]

_TINY = float(np.spacing(1.0))  # added to probabilities before a logarithm
_SHIFT = 300.0  # to intensities before they are squared
_NO_COARSENESS = 1e6  # where no voxel differs from its neighbours


def first_order(values: Floats, levels: Levels, voxel_mm3: float) -> dict[str, float]:
    """18 features of the intensities (n,) and grey levels (n,) of the voxels in the mask."""
    share = np.unique(levels, return_counts=True)[1] / len(levels)
    mean = values.mean()
    p10, p25, p75, p90 = np.percentile(values, [10, 25, 75, 90])
    middle = values[(values >= p10) & (values <= p90)]
    second, third, fourth = (((values - mean) ** power).mean() for power in (2, 3, 4))
    energy = ((values + _SHIFT) ** 2).sum()
    features = {
        "10Percentile": p10,
        "90Percentile": p90,
        "Energy": energy,
        "Entropy": _entropy(share),
        "InterquartileRange": p75 - p25,
        "Kurtosis": fourth / second**2 if second else 0.0,
        "Maximum": values.max(),
        "MeanAbsoluteDeviation": np.abs(values - mean).mean(),
        "Mean": mean,
        "Median": np.median(values),
        "Minimum": values.min(),
        "Range": values.max() - values.min(),
        "RobustMeanAbsoluteDeviation": np.abs(middle - middle.mean()).mean(),
        "RootMeanSquared": np.sqrt(energy / len(values)),
        "Skewness": third / second**1.5 if second else 0.0,
        "TotalEnergy": energy * voxel_mm3,
        "Uniformity": (share**2).sum(),
        "Variance": values.std() ** 2,
    }
    return {name: float(value) for name, value in features.items()}


def cooccurrence_features(levels: Levels, mask: Mask) -> dict[str, float]:
    """22 features (glcm), each the mean over the directions."""
    size = int(levels.max(initial=0, where=mask))
    level = np.arange(1.0, size + 1)
    directions = len(DIRECTIONS)
    px = np.empty((directions, size))
    of_sum = np.empty((directions, 2 * size - 1))  # of i + j = 2, 3, ...
    of_difference = np.empty((directions, size))  # of |i - j| = 0, 1, ...
    energy, highest, entropy, crossed, independent = np.empty((5, directions))
    for at, (i, j, counts) in enumerate(cooccurrences(levels, mask)):
        p = counts / counts.sum()
        px[at] = np.bincount(i - 1, weights=p, minlength=size)
        of_sum[at] = np.bincount(i + j - 2, weights=p, minlength=2 * size - 1)
        of_difference[at] = np.bincount(np.abs(i - j), weights=p, minlength=size)
        energy[at], highest[at], entropy[at] = (p**2).sum(), p.max(), _entropy(p)
        joint = np.outer(px[at], px[at])
        log_joint = np.log2(joint + _TINY)
        crossed[at] = -(p * log_joint[i - 1, j - 1]).sum()
        independent[at] = -(joint * log_joint).sum()
    entropy_x = _entropy(px)
    sums, differences = np.arange(2.0, 2 * size + 1), np.arange(float(size))
    mean = px @ level
    variance = (px * (level - mean[:, None]) ** 2).sum(axis=1)
    from_mean = sums - 2 * mean[:, None]
    tendency = (of_sum * from_mean**2).sum(axis=1)
    contrast = of_difference @ differences**2
    mean_difference = of_difference @ differences
    with np.errstate(invalid="ignore"):  # of two entropies that are equal but for rounding: left out of the mean
        informative = np.sqrt(1 - np.exp(-2 * (independent - entropy)))
    features = {
        # With equal margins Var(i + j) = 2 v + 2 c and E(i - j)^2 = 2 v - 2 c, v the variance and c the covariance.
        "Autocorrelation": (tendency - contrast) / 4 + mean**2,
        "JointAverage": mean,
        "ClusterProminence": (of_sum * from_mean**4).sum(axis=1),
        "ClusterShade": (of_sum * from_mean**3).sum(axis=1),
        "ClusterTendency": tendency,
        "Contrast": contrast,
        "Correlation": np.where(variance == 0, 1.0, (tendency - contrast) / 4 / (variance + _TINY)),
        "DifferenceAverage": mean_difference,
        "DifferenceEntropy": _entropy(of_difference),
        "DifferenceVariance": (of_difference * (differences - mean_difference[:, None]) ** 2).sum(axis=1),
        "JointEnergy": energy,
        "JointEntropy": entropy,
        "Imc1": np.divide(entropy - crossed, entropy_x, out=np.zeros_like(entropy), where=entropy_x != 0),
        "Imc2": np.where(independent == entropy, 0.0, informative),
        "Idm": of_difference @ (1 / (1 + differences**2)),
        "Idmn": of_difference @ (1 / (1 + differences**2 / size**2)),
        "Id": of_difference @ (1 / (1 + differences)),
        "Idn": of_difference @ (1 / (1 + differences / size)),
        "InverseVariance": of_difference[:, 1:] @ (1 / differences[1:] ** 2),
        "MaximumProbability": highest,
        "SumEntropy": _entropy(of_sum),
        "SumSquares": variance,
    }
    return {name: _mean(values) for name, values in features.items()}


def run_features(levels: Levels, mask: Mask) -> dict[str, float]:
    """16 features (glrlm), each the mean over the directions."""
    names = ("Run", "RunLength", "RunPercentage", "RunVariance", "RunEntropy", "ShortRun", "LongRun")
    return _extents(runs(levels, mask), names)


def zone_features(levels: Levels, mask: Mask) -> dict[str, float]:
    """16 features (glszm)."""
    level, size = zones(levels, mask)
    sizes, place = np.unique(size, return_inverse=True)
    counts = np.zeros((1, int(level.max()), len(sizes)))
    np.add.at(counts[0], (level - 1, place), 1)
    names = ("Zone", "SizeZone", "ZonePercentage", "ZoneVariance", "ZoneEntropy", "SmallArea", "LargeArea")
    return _extents(counts, names, sizes.astype(np.float64))


def _extents(counts: Floats, names: tuple[str, ...], extent: Floats | None = None) -> dict[str, float]:
    """What runs and zones have in common: counts (directions, levels, extents), an extent being a length or a size."""
    unit, non_uniformity, percentage, spread, entropy, small, large = names
    j = np.arange(1.0, counts.shape[2] + 1) if extent is None else extent
    i = np.arange(1.0, counts.shape[1] + 1)
    total = counts.sum(axis=(1, 2))
    by_level, by_extent = counts.sum(axis=2), counts.sum(axis=1)
    i_share, j_share = by_level / total[:, None], by_extent / total[:, None]

    def emphasis(level_power: int, extent_power: int) -> Floats:
        weighted: Floats = (counts @ j**extent_power) @ i**level_power / total
        return weighted

    features = {
        f"{small}Emphasis": emphasis(0, -2),
        f"{large}Emphasis": emphasis(0, 2),
        "GrayLevelNonUniformity": (by_level**2).sum(axis=1) / total,
        "GrayLevelNonUniformityNormalized": (i_share**2).sum(axis=1),
        f"{non_uniformity}NonUniformity": (by_extent**2).sum(axis=1) / total,
        f"{non_uniformity}NonUniformityNormalized": (j_share**2).sum(axis=1),
        percentage: total / (by_extent @ j),
        "GrayLevelVariance": _variance(i_share, i),
        spread: _variance(j_share, j),
        entropy: _entropy(counts / total[:, None, None], axes=(1, 2)),
        f"LowGrayLevel{unit}Emphasis": emphasis(-2, 0),
        f"HighGrayLevel{unit}Emphasis": emphasis(2, 0),
        f"{small}LowGrayLevelEmphasis": emphasis(-2, -2),
        f"{small}HighGrayLevelEmphasis": emphasis(2, -2),
        f"{large}LowGrayLevelEmphasis": emphasis(-2, 2),
        f"{large}HighGrayLevelEmphasis": emphasis(2, 2),
    }
    return {name: _mean(values) for name, values in features.items()}


def difference_features(levels: Levels, mask: Mask) -> dict[str, float]:
    """5 features of differences from the neighbourhood (ngtdm)."""
    i, counts, s = neighbour_differences(levels, mask)
    voxels, p = counts.sum(), counts / counts.sum()
    distance = np.abs(i[:, None] - i)
    weighted = p * s
    unlike = np.abs((i * p)[:, None] - i * p).sum()
    total = s.sum()
    pairs = len(i) * (len(i) - 1)
    features = {
        "Busyness": weighted.sum() / unlike if unlike else 0.0,
        "Coarseness": 1 / weighted.sum() if weighted.sum() else _NO_COARSENESS,
        "Complexity": (distance * (weighted[:, None] + weighted) / (p[:, None] + p)).sum() / voxels,
        "Contrast": (p[:, None] * p * distance**2).sum() * total / voxels / pairs if pairs else 0.0,
        "Strength": ((p[:, None] + p) * distance**2).sum() / total if total else 0.0,
    }
    return {name: float(value) for name, value in features.items()}


def _entropy(p: Floats, axes: int | tuple[int, ...] = -1) -> Floats:
    entropy: Floats = -(p * np.log2(p + _TINY)).sum(axis=axes)
    return entropy


def _variance(share: Floats, values: Floats) -> Floats:
    variance: Floats = (share * (values - (share @ values)[:, None]) ** 2).sum(axis=1)
    return variance


def _mean(over_directions: Floats) -> float:
    known = over_directions[~np.isnan(over_directions)]
    return float(known.mean()) if known.size else float("nan")
