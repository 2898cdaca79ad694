"""Data in: NIfTI files in known layouts, or synthetic subjects; and the patches that networks are trained on."""

from vesselgan.data.augmentation import Augmentation, augment
from vesselgan.data.brain import compute_brain_mask
from vesselgan.data.datasets import (
    LAYOUTS,
    Layout,
    LoadedSubject,
    Subject,
    find_subjects,
    load_subject,
    split_subjects,
)
from vesselgan.data.listing import pair_by_listing
from vesselgan.data.nifti import Volume, load_mask, load_volume, save_volume
from vesselgan.data.patches import (
    apply_range,
    cut,
    grid_corners,
    minmax_scale,
    patch_corners,
    robust_range,
    vessel_corners,
)
from vesselgan.data.phantom import Phantom, make_phantom, phantom_subjects
from vesselgan.data.sampling import EpochSampler, PoissonSampler
from vesselgan.data.store import StoredSubject, VolumeStore, open_store, write_store

__all__ = [
    "LAYOUTS",
    "Augmentation",
    "EpochSampler",
    "Layout",
    "LoadedSubject",
    "Phantom",
    "PoissonSampler",
    "StoredSubject",
    "Subject",
    "Volume",
    "VolumeStore",
    "apply_range",
    "augment",
    "compute_brain_mask",
    "cut",
    "find_subjects",
    "grid_corners",
    "load_mask",
    "load_subject",
    "load_volume",
    "make_phantom",
    "minmax_scale",
    "open_store",
    "pair_by_listing",
    "patch_corners",
    "phantom_subjects",
    "robust_range",
    "save_volume",
    "split_subjects",
    "vessel_corners",
    "write_store",
]
