"""Data in: files in declared layouts, or synthetic subjects; and the patches that networks are trained on."""

from vesselgan.data.augmentation import Augmentation, augment
from vesselgan.data.brain import compute_brain_mask
from vesselgan.data.datasets import LoadedSubject, examine_subject, load_subject
from vesselgan.data.layouts import SPLITS, FoundSubjects, Layout, Subject, find_subjects, scan_folder
from vesselgan.data.listing import pair_by_listing
from vesselgan.data.metaimage import metaimage_files
from vesselgan.data.nifti import save_volume
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
from vesselgan.data.placement import as_in_file, placement_of
from vesselgan.data.procedural import Randomisation, phantom_shape, procedural_patches, randomise
from vesselgan.data.sampling import EpochSampler, PlaceSampler, PoissonSampler
from vesselgan.data.splits import complete_split, split_subjects
from vesselgan.data.store import StoredSubject, VolumeStore, open_store, write_store
from vesselgan.data.tubes import rasterise_tubes, read_tubes
from vesselgan.data.volumes import Volume, check_header, load_mask, load_volume

__all__ = [
    "SPLITS",
    "Augmentation",
    "EpochSampler",
    "FoundSubjects",
    "Layout",
    "LoadedSubject",
    "Phantom",
    "PlaceSampler",
    "PoissonSampler",
    "Randomisation",
    "StoredSubject",
    "Subject",
    "Volume",
    "VolumeStore",
    "apply_range",
    "as_in_file",
    "augment",
    "check_header",
    "complete_split",
    "compute_brain_mask",
    "cut",
    "examine_subject",
    "find_subjects",
    "grid_corners",
    "load_mask",
    "load_subject",
    "load_volume",
    "make_phantom",
    "metaimage_files",
    "minmax_scale",
    "open_store",
    "pair_by_listing",
    "patch_corners",
    "phantom_shape",
    "phantom_subjects",
    "placement_of",
    "procedural_patches",
    "randomise",
    "rasterise_tubes",
    "read_tubes",
    "robust_range",
    "save_volume",
    "scan_folder",
    "split_subjects",
    "vessel_corners",
    "write_store",
]
