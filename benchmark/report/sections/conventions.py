"""What was chosen where tools differ, as pages say it."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmark.words import join

__all__ = ["convention_facts"]

_TITLES = {
    "vessels": "vessels are",
    "both_empty": "truth and prediction both empty",
    "empty_prediction": "an empty prediction counts as",
    "bavd": "bAVD",
    "hd95": "HD95",
    "contours": "neighbours that make a contour",
    "z_scores": "intensities before features",
    "zeros": "black before features",
    "nearly_empty": "nearly empty patches",
}


def convention_facts(conventions: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Title and choice, of whatever `conventions` of a results.json has: of metrics, patches and masks."""
    asked = (
        f"{name} {join(f'{option} {value}' for option, value in options.items())}"
        for name, options in conventions.get("metrics", {}).items()
        if options
    )
    if told := "; ".join(asked):
        yield "options of metrics", told
    patches = conventions.get("patches", {})
    by_recipe = patches if all(isinstance(each, Mapping) for each in patches.values()) else {"": patches}
    for recipe, chosen in by_recipe.items():
        if not chosen:
            continue
        where = f" ({recipe})" if len(by_recipe) > 1 else ""
        yield _TITLES["z_scores"] + where, chosen["z_scores"]
        yield _TITLES["zeros"] + where, chosen["zeros"]
        under = f"under {chosen['voxels_needed']:.0%} of voxels above black"
        yield _TITLES["nearly_empty"] + where, f"{chosen['nearly_empty']} ({under})"
    for name, value in conventions.get("masks", {}).items():
        if value is not None:
            yield _TITLES[name], f"values {join(map(str, value))}" if isinstance(value, list) else str(value)
