"""Radiomics features of patches, as FRD v1 is taken on. Needs the extra `frd`: SimpleITK and PyWavelets."""

from vesselgan.radiomics.extractor import RadiomicsFeatures, feature_names, radiomics_features
from vesselgan.radiomics.images import check_libraries

__all__ = ["RadiomicsFeatures", "check_libraries", "feature_names", "radiomics_features"]
