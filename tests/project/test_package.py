"""How the packages hang together."""

import ast
import hashlib
import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark
import vesselgan

# It is also a script, which finds its way without the helpers.
ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").is_file())
MODULES = sorted(
    module.name
    for package in (vesselgan, benchmark)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
)
VERSIONS = ROOT / "tests/golden/stage_versions.json"


@pytest.mark.parametrize("name", MODULES)
def test_every_name_in_all_exists_and_is_listed_once(name: str) -> None:
    module = importlib.import_module(name)
    names = module.__all__
    assert len(names) == len(set(names))
    for public in names:
        assert hasattr(module, public), public


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import vesselgan", {"torch"}),
        ("import vesselgan.data, vesselgan.recipe, vesselgan.variants", {"torch", "pandas"}),
        ("import benchmark.cli", {"torch", "mlflow", "matplotlib", "pandas", "scipy.stats"}),
        ("import benchmark.artifacts.pairs", {"torch"}),
        (
            "import benchmark.run.scheduler, benchmark.plan, benchmark.run.engines.local",
            {"torch", "mlflow", "matplotlib"},
        ),
        (
            "import benchmark.claims.verdicts, benchmark.results.summary, benchmark.report.exports",
            {"torch", "mlflow", "matplotlib"},
        ),
    ],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not absent & set(loaded)


def test_the_wheel_lists_every_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    folders = {path.parent for package in ("vesselgan", "benchmark") for path in (ROOT / package).rglob("__init__.py")}
    for folder in folders:
        assert f'"{".".join(folder.relative_to(ROOT).parts)}"' in text


def _code_of(module: str) -> str:
    """The module's code (a package: all of its modules) without comments, layout and docstrings."""
    path = ROOT.joinpath(*module.split("."))
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    parts = []
    for file in files:
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                value = body[0].value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    body.pop(0)
        parts.append(ast.dump(tree))
    return "\n".join(parts)


def stage_versions() -> dict[str, dict[str, object]]:
    from benchmark.stages import STAGES

    return {
        name: {
            "version": stage.version,
            "code": hashlib.sha256("\n".join(map(_code_of, stage.modules)).encode()).hexdigest()[:16],
        }
        for name, stage in STAGES.items()
    }


def test_code_that_a_stage_runs_does_not_change_without_its_version() -> None:
    """After a change that alters results: raise the number in benchmark/artifacts/versions.py.

    Then, or where results stay the same to the bit: `python tests/project/test_package.py` records the new code.
    """
    recorded = json.loads(VERSIONS.read_text())
    current = stage_versions()
    assert current.keys() == recorded.keys()
    changed = [name for name in current if current[name] != recorded[name]]
    assert not changed, f"the code of {', '.join(changed)} changed: see this test's docstring"


if __name__ == "__main__":
    VERSIONS.write_text(json.dumps(stage_versions(), indent=1) + "\n")
