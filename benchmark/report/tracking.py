"""Which tracker shows the runs: the one that the environment names, or the database in their folder."""

import os
import re

__all__ = ["TRACKER", "first_line", "named_tracker", "without_password"]

TRACKER = "MLFLOW_TRACKING_URI"


def named_tracker() -> str | None:
    """The address that the environment names; None for the database in the folder of the runs."""
    return os.environ.get(TRACKER) or None


def without_password(text: str) -> str:
    """Text with addresses in it, for people: some have a name and a password before the server's."""
    return re.sub(r"//[^/@\s]+@|/[^/:@\s]+:[^/@\s]+@", "//", text)


def first_line(error: Exception) -> str:
    """What went wrong, for a message."""
    return without_password((str(error) or type(error).__name__).splitlines()[0])
