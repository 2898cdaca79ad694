"""Generators as rows of one table: the WGANs of Subramaniam et al. 2022, their supplement's, and others."""

from dataclasses import dataclass
from typing import Literal

from vesselgan.errors import InputError, did_you_mean

__all__ = ["VARIANTS", "Variant"]


@dataclass(frozen=True)
class Variant:
    """A label, and the generator that it stands for: a ``family`` of ``vesselgan.families``, and a point of its space.

    Of a WGAN that is norm x precision x filters. ``norm`` is the critic's. ``precision`` is the paper's word: ``mixed``
    was float16 autocast on a GPU, and the harness says which dtype stands in for it elsewhere. ``filters`` is the
    widest layer of generator and critic. ``loss`` is one of ``vesselgan.training.adversarial.LOSSES``. Other families
    have no critic, and take their width from the profile.

    ``private`` is differential privacy (the supplement's DP): per-sample clipping and noise on the critic's gradients
    and clipped weights in place of the gradient penalty, which all others have. Its critic is plain here, since its
    Lipschitz bound comes from the weights; the public code leaves the instance norm in whenever spectral norm is off,
    turns the generator's BatchNorm into group norm, and keeps PyTorch's starting weights.
    """

    label: str
    norm: Literal["instance", "spectral", "none"] | None = None
    precision: Literal["full", "mixed"] = "full"
    filters: Literal[256, 512, 1024] | None = None
    private: bool = False
    loss: str = "wasserstein"
    family: str = "wgan"


class _UnknownVariantError(InputError, KeyError):
    """A label that is none of the table's."""

    __str__ = Exception.__str__  # a KeyError would put its message into quotation marks


class _Table(dict[str, Variant]):
    def __missing__(self, label: str) -> Variant:
        raise _UnknownVariantError(f"unknown variant {label!r}{did_you_mean(str(label), list(self))}")


# Two neighbours do not always differ in one thing: between GP and SN the instance norm goes when the spectral norm
# comes, and only from SN on does each row change a single setting.
VARIANTS: dict[str, Variant] = _Table(
    (variant.label, variant)
    for variant in (
        Variant("GP", norm="instance", precision="full", filters=512),
        Variant("SN", norm="spectral", precision="full", filters=512),
        Variant("SN-MP", norm="spectral", precision="mixed", filters=512),
        Variant("c-SN-MP", norm="spectral", precision="mixed", filters=1024),
        Variant("DP", norm="none", precision="full", filters=256, private=True),
        Variant("AR", precision="mixed", family="autoregressive"),
    )
)
