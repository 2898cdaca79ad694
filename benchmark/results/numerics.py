"""What the numerics checks of a run found, in sentences: the same on the page and in MLflow."""

from collections.abc import Iterable

from benchmark.artifacts.values import NumericsCheck

__all__ = ["numerics_sentences"]


def numerics_sentences(checks: Iterable[NumericsCheck]) -> list[str]:
    """One about all checks that found nothing, and one about each network and format with a wrong kernel."""
    checks = list(checks)
    right = [check for check in checks if not check["faults"]]
    sentences = []
    if right:
        count = sum(check["operations"] for check in right)
        formats = " and ".join(sorted({check["precision"] for check in right}))
        sentences.append(f"{count} products and convolutions of {formats} networks agree with a wider format.")
    for check in checks:
        if faults := check["faults"]:
            ways = " and ".join(sorted({_way(fault["way"]) for fault in faults}))
            first = faults[0]["operation"]
            sentences.append(
                f"{check['precision']} on this processor: {len(faults)} of {check['operations']} operations of a "
                f"{check['network']} are wrong in this PyTorch ({first}{', ...' * (len(faults) > 1)}); computed {ways}."
            )
    return sentences


def _way(way: str) -> str:
    kind, _, name = way.partition(" ")
    if kind == "instructions":
        return f"with the instruction set {name}"
    return {"float32": "in float32"}.get(way, f"with {way}")
