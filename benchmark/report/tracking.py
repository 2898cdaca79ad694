"""Which tracker shows the runs: the one that the environment names, or the database in their folder."""

import os
import re

__all__ = ["TRACKER", "first_line", "named_tracker", "without_password"]

TRACKER = "MLFLOW_TRACKING_URI"
ACCESS = (
    "the server lets nobody in without a name: set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD"
)


def named_tracker() -> str | None:
    """The address that the environment names; None for the database in the folder of the runs."""
    return os.environ.get(TRACKER) or None


def without_password(text: str) -> str:
    """Text with addresses in it, for people: some have a name and a password before the server's."""
    return re.sub(r"//[^/@\s]+@|/[^/:@\s]+:[^/@\s]+@", "//", text)


def first_line(error: Exception) -> str:
    """What went wrong, for a message; of a server that lets nobody in, what to set."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    line = without_password((str(error) or type(error).__name__).splitlines()[0])
    return f"{line}; {ACCESS}" if named_tracker() and re.search(r"\b(401|403)\b", line) else line
