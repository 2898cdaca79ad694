"""What a planned stage has in memory at its peak, counted on fake tensors: for `plan`, and for placement on nodes.

It is what tensors take, see `vesselgan.profiling.step_counter`; what a process and its libraries take comes on top.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from benchmark.artifacts.generators import step_config, trained_config
from benchmark.artifacts.options import MeasureOptions, TrainGANOptions, TrainUNetOptions
from benchmark.artifacts.store import Spec
from benchmark.plan import Plan, Resources
from vesselgan.families import Family
from vesselgan.networks.last_block import pieces_as_on
from vesselgan.profiling.step_counter import StepCost, predict_unet_step
from vesselgan.settings import PrecisionName
from vesselgan.training import UNetConfig

__all__ = ["MOST_SIZES", "counted", "measured", "of_one_process", "stage_memory", "trained", "unet_cost", "weighed"]

CUDA_MIB = 1024.0
MOST_SIZES = 50  # of generators whose steps are counted: one takes about a second


def trained(plan: Plan, spec: Spec) -> tuple[Family[Any], Any]:
    """The family and configuration of a `train_gan`."""
    patches = plan.source.training_patches(plan.profile)
    return trained_config(spec.options_as(TrainGANOptions), patches)[:2]


def measured(spec: Spec) -> dict[str, tuple[Family[Any], Any]]:
    """Those of a `measure`, by the label of their cells."""
    options = spec.options_as(MeasureOptions)
    return {label: step_config(one, options) for label, one in options["configurations"].items()}


def of_one_process(config: Any) -> Any:
    """The configuration with the share of each batch that one of its processes computes, on a card of its own."""
    return replace(config, batch=config.batch // getattr(config, "processes", 1))


def stage_memory(plan: Plan, key: str) -> int | None:
    """Bytes of tensors at the peak of a training or of `measure`: on one card, or of all processes of a CPU's node.

    None for other stages. Those that make pairs or segment take no part in a training, and are not counted.
    """
    spec, device = plan.specs[key], plan.device
    if spec.stage == "train_gan":
        family, config = trained(plan, spec)
        one = counted(family, family.sized(of_one_process(config)), device).peak_bytes
        return one if device == "cuda" else one * getattr(config, "processes", 1)
    if spec.stage == "train_unet":
        return unet_cost(spec, plan.profile.patch, device).peak_bytes
    if spec.stage == "measure":
        # It keeps the weights of all configurations, and makes a step of one of them.
        costs = [counted(family, family.sized(config), device) for family, config in measured(spec).values()]
        return sum(cost.state_bytes for cost in costs) + max(cost.peak_bytes - cost.state_bytes for cost in costs)
    return None


def weighed(plan: Plan, keys: Collection[str]) -> dict[str, Resources]:
    """What these stages take of a node, of those whose memory is counted; each size counted once.

    On a card, what CUDA itself and its libraries keep comes on top.
    """
    specs = [spec for key, spec in plan.specs.items() if key in keys]
    generators = [trained(plan, spec) for spec in specs if spec.stage == "train_gan"]
    if len({(family, family.sized(of_one_process(config))) for family, config in generators}) > MOST_SIZES:
        return {}
    taken = {}
    for spec in specs:
        if (nbytes := stage_memory(plan, spec.key)) is not None:
            mib = nbytes / 2**20 + (CUDA_MIB if plan.device == "cuda" else 0.0)
            taken[spec.key] = replace(plan.resources[spec.key], memory_mib=mib)
    return taken


@cache
def counted(family: Family[Any], config: Any, device: str) -> StepCost:
    """What a step of a `sized` configuration takes on a `cpu` or `cuda`, which need not be there."""
    with pieces_as_on(device):
        return family.step_cost(config)


def unet_cost(spec: Spec, patch: Sequence[int], device: str) -> StepCost:
    """Of a training step of a `train_unet`."""
    unet = spec.options_as(TrainUNetOptions)["unet"]
    return _counted_unet(tuple(unet["filters"]), unet["precision"], unet["batch"], unet["ema"], tuple(patch), device)


@cache
def _counted_unet(
    filters: tuple[int, ...],
    precision: PrecisionName,
    batch: int,
    ema: float | None,
    patch: tuple[int, ...],
    device: str,
) -> StepCost:
    config = UNetConfig(
        batch=batch, max_steps=1, validate_every=1, seed=0, filters=filters, ema=ema, precision=precision
    )
    with pieces_as_on(device):
        return predict_unet_step(config, patch)
