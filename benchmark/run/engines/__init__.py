"""What `--engine` may name. An engine is a file in this folder; being here, it is found."""

from importlib import import_module
from pkgutil import iter_modules

from benchmark.run.engine import ENGINES, Engine
from vesselgan.errors import InputError, did_you_mean

__all__ = ["engine_names", "engine_of"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def engine_names() -> list[str]:
    """The registered engines."""
    return sorted(ENGINES)


def engine_of(name: str) -> type[Engine]:
    """The engine of that name. Raises InputError."""
    if name not in ENGINES:
        raise InputError(f"--engine {name}: there is no such engine{did_you_mean(name, engine_names())}")
    return ENGINES[name]
