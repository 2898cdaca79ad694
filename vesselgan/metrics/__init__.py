"""Metrics of segmentations and of generated samples. Needs numpy and scipy only; tensors pass through np.asarray."""

from vesselgan.metrics.contours import ContourDistances, Neighbours, contour_distances
from vesselgan.metrics.distances import (
    DirectedDistances,
    average_hausdorff,
    balanced_average_hausdorff,
    directed_distances,
    distance_map,
    hausdorff_95,
)
from vesselgan.metrics.distributions import (
    DistanceSettings,
    DistributionScores,
    FloorValue,
    RealFloor,
    distribution_scores,
    real_floor,
)
from vesselgan.metrics.estimates import Estimate
from vesselgan.metrics.feature_sets import FeatureSets, SetScores
from vesselgan.metrics.frechet import (
    FeatureStatistics,
    SmallSampleWarning,
    feature_statistics,
    frechet_distance,
    frechet_distance_of_statistics,
)
from vesselgan.metrics.frechet_infinite import frechet_distance_infinite
from vesselgan.metrics.frechet_radiomics import frechet_radiomics_distance
from vesselgan.metrics.gain import RealGainShare, real_gain_share
from vesselgan.metrics.kernel import kernel_distance
from vesselgan.metrics.labels import LabelDistance, LabelStatistics, label_distances, label_statistics
from vesselgan.metrics.memorisation import (
    ClosePair,
    MemorisationAudit,
    SharedSamplesError,
    block_means,
    memorisation_audit,
    mirrored,
    nearest_training,
)
from vesselgan.metrics.neighbours import precision_recall_density_coverage
from vesselgan.metrics.overlap import dice, precision, sensitivity, volume_similarity
from vesselgan.metrics.prd import max_f_beta_pair, prd_area, prd_curve, prd_curves, prd_from_histograms
from vesselgan.metrics.segmentation import segmentation_scores
from vesselgan.metrics.topology import betti_numbers, centreline, centreline_dice

__all__ = [
    "ClosePair",
    "ContourDistances",
    "DirectedDistances",
    "DistanceSettings",
    "DistributionScores",
    "Estimate",
    "FeatureSets",
    "FeatureStatistics",
    "FloorValue",
    "LabelDistance",
    "LabelStatistics",
    "MemorisationAudit",
    "Neighbours",
    "RealFloor",
    "RealGainShare",
    "SetScores",
    "SharedSamplesError",
    "SmallSampleWarning",
    "average_hausdorff",
    "balanced_average_hausdorff",
    "betti_numbers",
    "block_means",
    "centreline",
    "centreline_dice",
    "contour_distances",
    "dice",
    "directed_distances",
    "distance_map",
    "distribution_scores",
    "feature_statistics",
    "frechet_distance",
    "frechet_distance_infinite",
    "frechet_distance_of_statistics",
    "frechet_radiomics_distance",
    "hausdorff_95",
    "kernel_distance",
    "label_distances",
    "label_statistics",
    "max_f_beta_pair",
    "memorisation_audit",
    "mirrored",
    "nearest_training",
    "prd_area",
    "prd_curve",
    "prd_curves",
    "prd_from_histograms",
    "precision",
    "precision_recall_density_coverage",
    "real_floor",
    "real_gain_share",
    "segmentation_scores",
    "sensitivity",
    "volume_similarity",
]
