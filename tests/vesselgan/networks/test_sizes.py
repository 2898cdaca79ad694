"""Patch sizes and widths: what is accepted, and what a refusal says."""

import pytest
import torch

from vesselgan.errors import InputError
from vesselgan.networks import Critic, Generator


@pytest.mark.parametrize("network", [Generator, Critic])
@pytest.mark.parametrize(
    ("size", "nearest"),
    [((30, 32, 16), "(32, 32, 16)"), ((128, 120, 65), "(128, 128, 64)"), ((32, 32, 0), "(32, 32, 16)")],
)
def test_a_patch_axis_that_is_no_multiple_of_16_is_refused_with_the_nearest_size(
    network: type, size: tuple[int, int, int], nearest: str
) -> None:
    with pytest.raises(InputError, match="multiple of 16") as refusal:
        network(size, filters=8)
    assert nearest in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_patch_with_two_axes_is_refused() -> None:
    with pytest.raises(InputError, match="three"):
        Generator((32, 32), filters=8)


@pytest.mark.parametrize("network", [Generator, Critic])
def test_filters_that_cannot_be_halved_three_times_are_refused(network: type) -> None:
    with pytest.raises(InputError, match="such as 24"):
        network((32, 32, 16), filters=23)


def test_an_instance_norm_critic_with_one_final_position_is_refused_and_the_others_are_not() -> None:
    with pytest.raises(InputError, match=r"single final position.*\(32, 16, 16\)"):
        Critic((16, 16, 16), filters=8, norm="instance")
    for norm in ("spectral", "none"):
        assert Critic((16, 16, 16), filters=8, norm=norm)(torch.zeros(3, 2, 16, 16, 16)).shape == (3,)
    assert Critic((32, 16, 16), filters=8, norm="instance")(torch.zeros(3, 2, 32, 16, 16)).shape == (3,)


def test_an_unknown_critic_norm_is_refused() -> None:
    with pytest.raises(InputError, match="'batch'"):
        Critic((32, 32, 16), filters=8, norm="batch")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(16, 32, 48), (32, 16, 16)])
def test_generator_output_has_the_patch_size_that_was_asked_for(size: tuple[int, int, int]) -> None:
    generator = Generator(size, filters=8, latent=5, channels=3)
    flat, spatial = torch.zeros(2, 5), torch.zeros(2, 5, 1, 1, 1)
    assert generator(flat).shape == (2, 3, *size)
    torch.testing.assert_close(generator(flat), generator(spatial))
