"""What the metrics on the page are, in words."""

from collections.abc import Sequence

from benchmark.metrics.registry import measurements
from benchmark.results.format import Results

__all__ = ["glossary"]


def glossary(results: Results) -> Sequence[tuple[str, str]]:
    """Term and explanation, of those measurements of which the run has a metric."""
    shown = {name for group in results["groups"] for name in group["metrics"]}
    shown |= set(results["floor"]["metrics"]) if results["floor"] else set()
    return [
        term
        for each in measurements()
        if any(named.name in shown for named in each.named)
        for term in each.glossary.items()
    ]
