"""Who is trained, validated and tested on."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from vesselgan.data.layouts import SPLITS, Subject
from vesselgan.errors import InputError

__all__ = ["complete_split", "split_subjects"]


def split_subjects(
    keys: Iterable[str], *, train: float, validation: float, test: float, seed: int
) -> dict[str, list[str]]:
    """Divide subjects at random: ``{"train": [...], "validation": [...], "test": [...]}``, each sorted.

    Sizes are either three counts (int; subjects left over are used nowhere) or three fractions (float, adding up to 1,
    rounded so that no split is empty). The result depends on the set of keys and the seed, not on the keys' order, and
    the test subjects do not depend on the sizes of the other two.

    Raises:
        InputError: a subject twice, a split without subjects, too few subjects.
    """
    return _divide(keys, {"test": test, "validation": validation, "train": train}, seed)


def complete_split(
    subjects: Sequence[Subject], *, train: float, validation: float, test: float, seed: int
) -> dict[str, list[str]]:
    """The split that the dataset gives; what it leaves open is drawn at random, and never divides a person.

    A split that the dataset does not have is drawn from those given for training (or for nothing), in the proportions
    of `train`, `validation` and `test`; a dataset without splits is divided as by `split_subjects`.

    Raises:
        InputError: too few subjects, or none for training.
    """
    shares = {"test": test, "validation": validation, "train": train}
    given = {name: [each for each in subjects if each.split == name] for name in SPLITS}
    open_to = [each for each in subjects if each.split in (None, "train")]
    missing = {name: share for name, share in shares.items() if name == "train" or not given[name]}
    keys_of: dict[str, list[str]] = {}
    for each in open_to:
        keys_of.setdefault(each.person or each.key, []).append(each.key)
    if not keys_of:
        raise InputError("no subjects to train on: the dataset gives all to validation and test; use another dataset")
    total = sum(missing.values())
    drawn = _divide(keys_of, {name: share / total for name, share in missing.items()}, seed)
    split = {name: [each.key for each in given[name]] for name in SPLITS}
    split |= {name: [key for person in people for key in keys_of[person]] for name, people in drawn.items()}
    return {name: sorted(split[name]) for name in SPLITS}


def _divide(keys: Iterable[str], sizes: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    ordered = sorted(keys)
    if len(set(ordered)) < len(ordered):
        twice = next(key for key, after in pairwise(ordered) if key == after)
        raise InputError(f"subject {twice!r} is listed twice; give each subject one key")
    counts = _counts(len(ordered), list(sizes.values()))
    if sum(counts) > len(ordered):
        wanted = " + ".join(f"{count} {name}" for name, count in zip(sizes, counts, strict=True))
        raise InputError(f"{len(ordered)} subjects, too few for {wanted}; add subjects or lower the sizes")
    shuffled = iter(np.random.default_rng(seed).permutation(len(ordered)))
    chosen = {name: sorted(ordered[next(shuffled)] for _ in range(n)) for name, n in zip(sizes, counts, strict=True)}
    return {name: chosen[name] for name in SPLITS if name in chosen}


def _counts(subjects: int, sizes: Sequence[float]) -> list[int]:
    if min(sizes) <= 0:
        raise InputError(f"split sizes {sizes}; each split needs at least one subject")
    if all(isinstance(size, int) for size in sizes):
        return [int(size) for size in sizes]
    if abs(sum(sizes) - 1) > 1e-6:
        raise InputError(f"split sizes {sizes}; give three whole numbers, or three fractions that add up to 1")
    counts = [max(1, int(subjects * size)) for size in sizes]
    while sum(counts) < subjects:  # largest remainder first
        counts[max(range(len(sizes)), key=lambda i: subjects * sizes[i] - counts[i])] += 1
    while sum(counts) > subjects and max(counts) > 1:  # the minimum of one took too many
        counts[int(np.argmax(counts))] -= 1
    return counts
