"""Kinds of generators: each is one file, and whatever trains, keeps, samples or times one goes by `FAMILIES`.

None of them imports torch before it computes, since a plan reads their settings.
"""

from collections.abc import Mapping
from typing import Any

from vesselgan.errors import InputError, did_you_mean
from vesselgan.families.autoregressive import Autoregressive
from vesselgan.families.family import Family, Sampler, Task, Trained
from vesselgan.families.wgan import WGAN

__all__ = ["FAMILIES", "WGAN", "Family", "Sampler", "Task", "Trained", "family_of"]

FAMILIES: dict[str, Family[Any]] = {family.name: family for family in (WGAN(), Autoregressive())}


def family_of(facts: Mapping[str, Any], key: str = "kind") -> Family[Any]:
    """The family that stored facts name; those that name none are of earlier versions, and of WGANs.

    Raises InputError for an unknown one.
    """
    name = facts.get(key) or WGAN.name
    if name not in FAMILIES:
        raise InputError(f"unknown kind of generator {name!r}{did_you_mean(name, list(FAMILIES))}")
    return FAMILIES[name]
