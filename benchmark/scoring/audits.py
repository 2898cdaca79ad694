"""The audit for memorised patches, in words. Apart from the pictures, so that it is quick to import."""

from benchmark.artifacts.values import MemorisationValues
from benchmark.words import p_words

__all__ = ["audit_sentence"]


def audit_sentence(space: str, audit: MemorisationValues) -> str:
    """What one audit found, in words."""
    verdict = "more than chance allows: look at the pairs" if audit["memorised"] else "no more than chance allows"
    shared = f" {audit['shared']} unseen real patches are training patches, and left out." if "shared" in audit else ""
    return (
        f"In {'feature' if space == 'features' else 'image'} space {audit['close_count']} of {audit['generated_count']}"
        f" synthetic patches ({100 * audit['close_share']:.1f} %) lie closer to a training patch than all but "
        f"{100 * audit['expected_share']:.1f} % of unseen real patches do: {verdict} (p {p_words(audit['p_value'])}). "
        f"{audit['near_zero']} are nearly identical to one."
        f"{shared}"
    )
