"""The command line's entry point: signals, errors and exit statuses. The commands are in `benchmark.commands`."""

import signal
import sys

from benchmark.commands import app, complain
from benchmark.store import StageLockedError
from vesselgan.errors import InputError

__all__ = ["main"]


def main() -> None:
    """Entry point: bad input is told in one line per error, with exit status 2."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except InputError as error:
        complain(str(error))
        sys.exit(2)
    except StageLockedError as error:
        complain(str(error))
        sys.exit(1)
    except OSError as error:
        complain(f"{error.filename or 'file system'}: {error.strerror or error}")
        sys.exit(2)


def _terminate(*_: object) -> None:
    """Leave in good order. A second signal must not break into the way out: process managers send more than one."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)
