"""The one exception for input that a person can mend."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Bad input, told in one line that names the file or setting, the place in it and the remedy."""
