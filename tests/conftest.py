"""Options of the suite: `--benchmark` runs only timings, `--slow` adds statistical and long checks."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark", action="store_true", help="run the speed and memory benchmarks, and only these")
    parser.addoption("--slow", action="store_true", help="also run statistical and long checks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    benchmarks, slow = config.getoption("--benchmark"), config.getoption("--slow")

    def wanted(item: pytest.Item) -> bool:
        is_benchmark = item.get_closest_marker("benchmark") is not None
        return is_benchmark == bool(benchmarks) and (slow or item.get_closest_marker("slow") is None)

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]
