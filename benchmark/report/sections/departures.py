"""Where a run departs from the paper in what decides its numbers: told before the numbers, not only below them."""

from collections.abc import Iterator
from dataclasses import fields

from benchmark.report.sections.headline import Note
from benchmark.results.format import Results
from benchmark.results.run_folder import Settings, UNetSettings
from benchmark.words import join
from vesselgan.recipe import Recipe

__all__ = ["departures", "departures_note", "deviations_in_force"]


def departures(settings: Settings) -> Iterator[str]:
    """Each as a part of a sentence, for training options that the paper's code does not have."""
    unet = settings.get("unet") or UNetSettings()
    threshold, augmentation = unet.get("threshold", 0.5), unet.get("augmentation")
    if threshold == "validation":
        yield "the probability above which a voxel is vessel was chosen on the validation subjects (0.5 in the paper)"
    elif threshold != 0.5:
        yield f"a voxel is vessel above a probability of {threshold:g} (0.5 in the paper)"
    if augmentation:
        parts = ["turned"] * bool(augmentation.get("rotation")) + ["mirrored"] * bool(augmentation.get("flips"))
        varied = any(
            augmentation.get(name) not in (None, 0, 1) for name in ("gamma", "contrast", "brightness", "noise")
        )
        parts += ["varied in intensity"] * varied
        yield f"the U-Nets' patches were {join(parts) or 'varied'} (not in the paper's code)"
    averaged = [name for name, of in (("generators", settings), ("U-Nets", unet)) if of.get("ema")]
    if averaged:
        yield f"running averages (EMA) of the weights of the {join(averaged)} were used (not in the paper)"


def departures_note(results: Results) -> Note | None:
    """For the head of the page; None where there are none, or nothing was trained."""
    told = list(departures(results["settings"]))
    if not told or results["only"] == "costs":
        return None
    return Note("Not as in the paper", f"Beside sizes and budgets (see “How it was made”): {'; '.join(told)}.")


def deviations_in_force(results: Results) -> list[str]:
    """The D-numbers that any cell has as the paper's code does, with what they mean; those by which nothing changes
    on simulated subjects are left out."""
    found: dict[str, str] = {}
    for option in fields(Recipe):
        paper_code, corrected = option.metadata["paper_code"], option.metadata["corrected"]
        values = [cell["recipe_options"].get(option.name, corrected) for cell in results["cells"]]
        if paper_code in values and paper_code != corrected:
            about = f"{option.name} {paper_code}: {option.metadata['about']}"
            some = "" if all(value == paper_code for value in values) else ", in some cells"
            number = option.metadata["deviation"]
            found[number] = f"{found[number]}; {about}" if number in found else f"{number}{some}: {about}"
    return list(found.values())
