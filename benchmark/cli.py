"""The command line: errors and exit statuses. The commands are in `benchmark.commands`."""

import io
import sys
from pathlib import Path
from typing import Any

import typer

from benchmark.artifacts.store import StageLockedError
from benchmark.commands import app, complain
from benchmark.metrics.loading import load_metrics
from vesselgan.errors import InputError

__all__ = ["main"]

SCRIPT = "vesselgan-benchmark"  # that pip installs
UsageError: Any = typer.BadParameter.__base__  # click's, which some versions of typer carry inside themselves


def main() -> None:
    """Run the command that was typed: bad input is told in one line per error, with exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names of files that are not UTF-8 come out as they are
    try:
        load_metrics()
        arguments = ["--help"] if len(sys.argv) == 1 else None
        sys.exit(app(arguments, prog_name=_called_as(), standalone_mode=False) or 0)
    except UsageError as error:
        command = getattr(getattr(error, "ctx", None), "command_path", _called_as())
        complain(f"{' '.join(error.format_message().split()).rstrip('.')}; {command} --help lists what there is")
        sys.exit(2)
    except InputError as error:
        complain(str(error))
        sys.exit(2)
    except StageLockedError as error:
        complain(str(error))
        sys.exit(1)
    except MemoryError as error:
        complain(f"out of memory ({' '.join(str(error).split()) or type(error).__name__}): smaller batches need less")
        sys.exit(1)
    except OSError as error:
        complain(f"{error.filename or 'file system'}: {error.strerror or error}")
        sys.exit(2)


def _called_as() -> str:
    """The name in help and errors; and for completion the script's, since a shell completes words after a command."""
    completes = any(word.startswith(("--show-completion", "--install-completion")) for word in sys.argv[1:])
    return SCRIPT if completes or Path(sys.argv[0]).stem == SCRIPT else str(app.info.name)
