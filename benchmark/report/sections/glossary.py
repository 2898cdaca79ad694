"""What the metrics on the page are, in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.metrics.registry import measurements

__all__ = ["glossary"]


def glossary(results: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Term and explanation, of those measurements of which the run has a metric."""
    shown = {name for group in results["groups"] for name in group["metrics"]}
    shown |= ((results.get("floor") or {}).get("metrics") or {}).keys()
    return [
        term
        for each in measurements()
        if any(named.name in shown for named in each.named)
        for term in each.glossary.items()
    ]
