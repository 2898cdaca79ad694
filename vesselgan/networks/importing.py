"""Networks from other people's checkpoints, the paper's and MedicalNet's, read without running any code in them."""

import hashlib
import io
import pickle
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.files import not_the_file
from vesselgan.networks.critic import Critic
from vesselgan.networks.finite import refuse_non_finite
from vesselgan.networks.generator import Generator
from vesselgan.networks.resnet3d import ResNet10
from vesselgan.settings.options import CriticNorm

__all__ = ["PAPER_PATCH", "ImportedGAN", "import_gan", "import_medicalnet"]

PAPER_PATCH = (128, 128, 64)
GENERATOR, CRITIC, SCALER = "Generator_state_dict", "Discriminator_state_dict", "Scaler_dict"

Names = Mapping[str, str | Callable[[re.Match[str]], str]]

# Their names -> ours. In their generator an upsampling stands in front of each block's convolution.
_GENERATOR_NAMES: Names = {
    r"linear1\.0\.": "linear.",
    r"batch1\.0\.": "norm.",
    r"layer([234])\.1\.": lambda match: f"blocks.{int(match[1]) - 2}.0.",
    r"layer([234])\.2\.": lambda match: f"blocks.{int(match[1]) - 2}.1.",
    r"layer5\.": "output.",
}
_CRITIC_NAMES: Names = {
    r"layer([1234])\.0\.": lambda match: f"blocks.{int(match[1]) - 1}.0.",
    r"layer5\.": "score.",
}
# MedicalNet's public models have a segmentation decoder, which no feature needs; files of old PyTorch lack counters.
_DECODER = "conv_seg."
_COUNTER = "num_batches_tracked"
_SHOWN_NAMES = 6
_HEAD = 512  # bytes
_WRAPPERS = r"^(module\.|_orig_mod\.)+"  # of several GPUs, and of torch.compile


@dataclass(frozen=True, eq=False)
class ImportedGAN:
    """Generator and critic (if the file has one) of the paper's format, and where they come from.

    ``mixed_precision`` tells whether a loss scale was stored beside them, as in the paper's mixed trainings.
    """

    generator: Generator
    critic: Critic | None
    sha256: str
    mixed_precision: bool


def import_gan(path: Path, patch_size: Sequence[int] = PAPER_PATCH) -> ImportedGAN:
    """The networks of a checkpoint of the paper's code: a dictionary with ``Generator_state_dict`` and, usually,
    ``Discriminator_state_dict``, their names with or without the ``module.`` of several GPUs and the ``_orig_mod.`` of
    torch.compile.

    Width, noise and the critic's norm are read off the weights: a critic without ``weight_orig`` has instance norm, as
    in the paper's code. The patch size is not stored. Raises InputError for a file that cannot be read safely, and
    where names or shapes are not those of the paper's networks (the line lists them) or weights are no numbers.
    """
    content, sha256 = _read(path)
    if GENERATOR not in content:
        raise InputError(f"{path}: no {GENERATOR!r} in it; the paper's checkpoints are dictionaries that have one")
    weights = _renamed(path, content[GENERATOR], _GENERATOR_NAMES)
    filters, latent = _length(weights, "norm.weight", 0, path), _length(weights, "linear.weight", 1, path)
    if "norm.running_mean" not in weights:
        raise InputError(f"{path}: its generator has group norm (the DP variant's), which is not supported here")
    # On no device: the sizes come from a stranger's file, and nothing is allocated before they are known to fit.
    with torch.device("meta"):
        generator = Generator(patch_size, filters, latent)
    _fill(generator, weights, path, f"the paper's generator at {generator.patch_size}", "linear.")
    critic = None
    if CRITIC in content:
        weights = _renamed(path, content[CRITIC], _CRITIC_NAMES)
        norm: CriticNorm = "spectral" if "blocks.0.0.weight_orig" in weights else "instance"
        filters = _length(weights, "blocks.3.0.bias", 0, path)
        with torch.device("meta"):
            critic = Critic(patch_size, filters, norm=norm)
        _fill(critic, weights, path, f"the paper's critic at {critic.patch_size}", "score.")
    return ImportedGAN(generator, critic, sha256, mixed_precision=bool(content.get(SCALER)))


def import_medicalnet(path: Path) -> tuple[ResNet10, str]:
    """MedicalNet's ResNet-10 (``resnet_10_23dataset.pth``) and the file's SHA-256.

    Names may carry ``module.``; the segmentation decoder of the public models, if it is there, is left out. Raises
    InputError as :func:`import_gan`.
    """
    content, sha256 = _read(path)
    weights = _renamed(path, content.get("state_dict", content), {})
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith(_DECODER)}
    with torch.device("meta"):
        net = ResNet10()
    _fill(net, weights, path, "MedicalNet's ResNet-10", "nothing in it")
    return net, sha256


def _read(path: Path) -> tuple[Mapping[str, Any], str]:
    """The dictionary in a file of ``torch.save``, of any age, and the file's SHA-256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats; whatever is not weights ends below
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file of another kind
        if told := not_the_file(content[:_HEAD]):
            raise InputError(f"{path}: {told}") from None
        if not isinstance(error, pickle.UnpicklingError):
            raise InputError(f"{path}: not a file of torch.save, or a damaged one; nothing in it was run") from None
        raise InputError(f"{path}: not a file of weights alone; nothing in it was run") from None
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not a dictionary of weights")
    return state, hashlib.sha256(content).hexdigest()


def _renamed(path: Path, state: object, names: Names) -> dict[str, Tensor]:
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(f"{path}: where weights should be stands something else than a dictionary of tensors")
    renamed = {}
    for name, tensor in state.items():
        new = re.sub(_WRAPPERS, "", str(name))
        for pattern, replacement in names.items():
            if re.match(pattern, new):
                new = re.sub(f"^{pattern}", replacement, new)
                break
        renamed[new] = tensor
    return renamed


def _length(weights: Mapping[str, Tensor], name: str, axis: int, path: Path) -> int:
    tensor = weights.get(name)
    if tensor is None or tensor.ndim <= axis:
        raise InputError(f"{path}: has no {name} from which a size could be read; it is no network of the paper")
    return int(tensor.shape[axis])


def _fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path, what: str, sized_by: str = "") -> None:
    """Give an unallocated network these weights; every name and shape must fit.

    `sized_by` is the one layer whose shape follows the patch: where it alone does not fit, another patch size will.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in weights and not name.endswith(_COUNTER)]
    unexpected = [name for name in weights if name not in wanted]
    misshapen = [
        f"{name} {tuple(weights[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    of_patch = not missing and not unexpected and all(text.startswith(sized_by) for text in misshapen)
    remedy = "; the size of the patch is not in the file: give the right one (--patch X,Y,Z)" if of_patch else ""
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    told = "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds.items() if names)
    if told:
        raise InputError(f"{path}: does not fit {what}: {told}{remedy}")
    network.to_empty(device="cpu")
    counters = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items() if name not in weights}
    network.load_state_dict({**weights, **counters})
    refuse_non_finite(network, path)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")
