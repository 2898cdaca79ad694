"""The one exception for input that a person can mend."""

import difflib
from collections.abc import Sequence

__all__ = ["InputError", "did_you_mean"]


class InputError(ValueError):
    """Bad input, told in one line that names the file or setting, the place in it and the remedy."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The end of a complaint about an unknown word: the nearest known one, or all of them."""
    swapped = [other for other in known if sorted(other) == sorted(word)]  # as near to others, by difflib
    close = swapped or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}" if known else ""
