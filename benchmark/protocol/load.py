"""YAML -> Protocol, with every error at once as `file:line:column: key: what, did you mean`."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from benchmark.protocol.cells import MOST_CELLS, labels_by_kind, most_cells
from benchmark.protocol.claim import CHOSEN, Claim, split_side
from benchmark.protocol.schema import AXES, Profile, Protocol, protocol_model
from benchmark.protocol.yaml_model import read_model
from vesselgan.errors import InputError, did_you_mean

__all__ = ["choose_profile", "find_protocol", "load_protocol", "packaged_protocols"]


def find_protocol(name: str) -> Path:
    """A path as given, or the packaged protocol of that name (`paper` finds `paper.yaml`).

    Raises InputError if there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        raise InputError(f"{name}: is a folder; name a protocol file in it")
    packaged = sorted(packaged_protocols())
    for candidate in packaged:
        # "protocols/paper.yaml" as in the README also works outside a checkout.
        if name in (candidate.stem, candidate.name, f"protocols/{candidate.name}"):
            return candidate
    known = ", ".join(candidate.stem for candidate in packaged) or "none"
    raise InputError(f"{name}: no such protocol file, nor a packaged protocol of that name (packaged: {known})")


def choose_profile(protocol: Protocol, name: str | None) -> tuple[str, Profile]:
    """A protocol's profile by its name, its default one where there is none, and that name. Raises InputError."""
    name = name or protocol.default_profile
    if name not in protocol.profiles:
        raise InputError(f"protocol {protocol.protocol}: no profile {name!r}; it has {', '.join(protocol.profiles)}")
    return name, protocol.profiles[name]


def load_protocol(path: Path) -> Protocol:
    """Read and validate a protocol. Raises InputError with one line per error."""
    protocol, place = read_model(path, protocol_model(), "protocol")
    problems = list(_inconsistencies(protocol))
    if problems:
        raise InputError("\n".join(f"{path}:{place(loc)}: {what}" for loc, what in problems))
    return protocol


def packaged_protocols() -> Iterable[Path]:
    """The protocol files that travel with the package."""
    # In a wheel they are package data; in a checkout they stand at the top level.
    packaged = Path(str(files("benchmark"))) / "packaged_protocols"
    checkout = Path(str(files("benchmark"))).parent / "protocols"
    folder = packaged if packaged.is_dir() else checkout
    return folder.glob("*.yaml")


def _inconsistencies(protocol: Protocol) -> Iterable[tuple[tuple[int | str, ...], str]]:
    """What no single field can know."""
    if protocol.default_profile not in protocol.profiles:
        hint = did_you_mean(protocol.default_profile, list(protocol.profiles))
        yield ("default_profile",), f"default_profile: no profile {protocol.default_profile!r}{hint}"
    counts = {name: most_cells(protocol, profile) for name, profile in protocol.profiles.items()}
    if sum(counts.values()) > MOST_CELLS:  # told before any is built
        largest = max(counts, key=lambda name: counts[name])
        loc = ("profiles", largest, "matrix") if protocol.profiles[largest].matrix else ("matrix",)
        told = f"up to {sum(counts.values())} cells in all profiles, {counts[largest]} of them in {largest}"
        yield loc, f"{'.'.join(loc)}: {told}; a protocol has at most {MOST_CELLS}: give fewer values or arms"
        return
    matrices = [profile.matrix or protocol.matrix for profile in protocol.profiles.values()]
    for index, rule in enumerate(protocol.exclude):
        for axis, value in rule.items():
            if axis not in AXES:
                yield ("exclude", index, axis), f"exclude.{index}: unknown axis {axis!r}{did_you_mean(axis, AXES)}"
                continue
            for one in value if isinstance(value, list) else [value]:
                if not any(one in (getattr(matrix, axis) or []) for matrix in matrices):
                    yield (
                        ("exclude", index, axis),
                        f"exclude.{index}: no cell has {axis} {one!r}; give values of the axis",
                    )
    try:
        labels, synthetic = labels_by_kind(protocol)
    except InputError as error:
        yield (), str(error)
        return
    names = [claim.name for claim in protocol.claims]
    for index, claim in enumerate(protocol.claims):
        if names.index(claim.name) != index:
            yield ("claims", index), f"claims.{index}: {claim.name!r} stands there twice; give each claim its name"
        where = f"claims.{index}: {claim.name}"
        yield from _unknown_labels(("claims", index), where, claim.sides, [*labels, CHOSEN])
        for rival in claim.among or ():
            if rival not in synthetic:
                yield (
                    ("claims", index),
                    f"{where}: 'among' names {rival!r}, which is no synthetic label{did_you_mean(rival, synthetic)}",
                )
        if problem := _unanswerable(claim, labels, synthetic, list(protocol.reference)):
            yield ("claims", index), f"{where}: {problem}"
    for side in protocol.reference:
        yield from _unknown_labels(("reference", side), f"reference.{side}", [side], labels)


def _unanswerable(
    claim: Claim, labels: Sequence[str], synthetic: Sequence[str], published: Sequence[str]
) -> str | None:
    """What a claim lacks in the rest of the protocol, if anything."""
    side = claim.sides[0]
    if claim.kind == "compatible" and side not in published:
        return f"'reference' has no published {side!r}{did_you_mean(side, published)}"
    label = split_side(side)[1]
    rivals = [name for name in synthetic if name != label]
    if claim.kind == "best" and label in labels and (label not in synthetic or not rivals):
        return "'best' compares a synthetic label with other synthetic ones" + (
            "" if rivals else ", and there are none"
        )
    return None


def _unknown_labels(
    loc: tuple[int | str, ...], where: str, sides: Iterable[str], labels: Sequence[str]
) -> Iterable[tuple[tuple[int | str, ...], str]]:
    for side in sides:
        label = split_side(side)[1]
        if label not in labels:
            yield loc, f"{where}: no cell has the label {label!r}{did_you_mean(label, labels)}"
