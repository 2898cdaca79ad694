"""MedicalNet's weights from the hub where they are published, for machines with a network."""

from pathlib import Path

from vesselgan.errors import InputError

__all__ = ["MEDICALNET_FILE", "local_weights", "medicalnet_weights"]

MEDICALNET_REPOSITORY = "TencentMedicalNet/MedicalNet-Resnet10"
MEDICALNET_FILE = "resnet_10_23dataset.pth"


def local_weights(name: str) -> Path:
    """The file of this name, or for `hub` the downloaded one. Raises InputError as `medicalnet_weights`."""
    return medicalnet_weights() if name == "hub" else Path(name)


def medicalnet_weights() -> Path:
    """The local copy of `resnet_10_23dataset.pth`, downloaded on first use into the hub's own cache.

    Raises InputError where huggingface_hub is not installed, or where there is neither a network nor a cached copy.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise InputError(
            "MedicalNet's weights: downloading them needs huggingface_hub: pip install 'huggingface_hub>=0.30,<3' "
            f"(the extra [hub]); or give a local {MEDICALNET_FILE} with --weights FILE"
        ) from None
    try:
        return Path(hf_hub_download(MEDICALNET_REPOSITORY, MEDICALNET_FILE))
    except Exception as error:  # the client's errors changed their bases from version to version
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"MedicalNet's weights: {MEDICALNET_REPOSITORY} cannot be reached ({reason}); "
            f"download {MEDICALNET_FILE} on another machine and give it with --weights FILE"
        ) from None
