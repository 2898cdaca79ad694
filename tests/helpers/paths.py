"""Where the repository, its tests, and what tests share are."""

from pathlib import Path

__all__ = ["HELPERS", "ROOT", "TESTS"]

ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").is_file())
TESTS = ROOT / "tests"
HELPERS = Path(__file__).parent  # the current folder of scripts that import from here
