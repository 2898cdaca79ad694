"""Metrics of one's own: modules that an environment variable names, so that worker processes load them, too."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from vesselgan.errors import InputError

__all__ = ["MODULES", "load_metrics"]

MODULES = "VESSELGAN_METRICS"  # modules, or files that end in .py; several as in PATH


def load_metrics() -> None:
    """Import what `VESSELGAN_METRICS` names: what it registers is there from then on.

    Raises InputError for what is not there, cannot be read, or registers a metric that cannot be.
    """
    for name in filter(None, os.environ.get(MODULES, "").split(os.pathsep)):
        try:
            _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
        except (ImportError, OSError, SyntaxError, TypeError, ValueError) as error:
            raise InputError(f"{MODULES}: {name}: {type(error).__name__}: {error}") from None


def _load_file(path: Path) -> None:
    name = path.stem
    if name in sys.modules:
        if sys.modules[name].__file__ == str(path.resolve()):
            return
        raise ImportError(f"a module {name!r} is loaded already; give the file another name")
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None  # of a name that ends in .py there is one
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
