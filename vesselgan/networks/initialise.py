"""The paper's starting weights."""

from torch import nn

from vesselgan.networks.spectral import SpectralConv3d
from vesselgan.networks.upsampling import UpsampleConv3d
from vesselgan.recipe import CORRECTED, Recipe

__all__ = ["initialise"]

_STD = 0.05


def initialise(network: nn.Module, recipe: Recipe = CORRECTED) -> None:
    """Convolution weights N(0, 0.05), BatchNorm gamma N(recipe.gamma_mean, 0.05), beta 0; the rest as PyTorch made it.

    With ``recipe.critic_init == "after_norm"`` the weights under a spectral norm also stay as PyTorch made them: the
    paper's code fills them after the norm was put on and after the move to the GPU, and there only a copy is filled.
    Draws from PyTorch's global random numbers, in place.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | UpsampleConv3d):
            nn.init.normal_(module.weight, 0.0, _STD)
        elif isinstance(module, SpectralConv3d) and recipe.critic_init == "before_norm":
            nn.init.normal_(module.weight_orig, 0.0, _STD)
        elif isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.weight, recipe.gamma_mean, _STD)
            nn.init.zeros_(module.bias)
