"""How many synthetic patches lie suspiciously close to a training patch, in feature space and in image space."""

from collections.abc import Mapping

from benchmark.metrics.given import Audits
from benchmark.metrics.registry import Metric, metric

__all__ = ["memorised_shares"]

SHARE = (0.0, 1.0)


@metric(
    Metric("memorised_share/features", "close to training (features)", better="lower", limits=SHARE),
    Metric("memorised_share/images", "close to training (images)", better="lower", limits=SHARE),
    kind="audit",
    name="memorisation",
    always=True,
)
def memorised_shares(audits: Audits) -> Mapping[str, float]:
    """`close_share` of both audits."""
    return {f"memorised_share/{space}": audit.close_share for space, audit in audits.by_space.items()}
