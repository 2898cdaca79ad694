"""What a training step costs: time, throughput and memory."""

from collections.abc import Mapping, Sequence

from benchmark.metrics.given import StepCosts
from benchmark.metrics.registry import Metric, metric

__all__ = ["step_costs"]


@metric(
    Metric("step_time_ms", "training step", better="lower", unit="ms", decimals=1),
    Metric("patches_per_s", "throughput", better="higher", unit="patches/s", decimals=1),
    Metric("peak_memory_mib", "peak tensor memory", better="lower", unit="MiB", decimals=1),
    kind="cost",
    name="costs",
)
def step_costs(costs: StepCosts) -> Mapping[str, Sequence[float] | float]:
    """Times and what follows from them have a value per round; memory is an exact count, the same at every repeat."""
    return {
        "step_time_ms": costs.step_times_ms,
        "patches_per_s": [1000 * costs.batch / time for time in costs.step_times_ms],
        "peak_memory_mib": costs.peak_memory_mib,
    }
