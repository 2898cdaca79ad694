"""The first sight of a run in MLflow: addresses, and a table and charts of cells that answer questions."""

import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

__all__ = ["EXPERIMENT_TAGS", "cells_url", "charts_url", "experiments_url", "side_by_side_url"]

TRAINING = "workflowType=machine_learning"  # what MLflow shows in place of language models
TABLE, CHARTS = "cells", "charts"  # names in addresses
PARAMS = {"label": 90, "precision": 75, "filters": 60, "seed": 50}  # with widths in pixels: all fit on a laptop
METRICS = {"dsc/intracranial": 115, "dsc/all": 85, "fid_over_floor": 110, "step_time_ms": 100, "peak_memory_mib": 125}
COLUMNS = {
    f"{kind}.`{name}`": width
    for kind, columns in (("params", PARAMS), ("metrics", METRICS))
    for name, width in columns.items()
}

# Sections of charts: metrics of cells as bars, readings of trainings as lines, and two metrics against each other.
SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "What counts": {
        "BAR": ("dsc/intracranial", "dsc/all", "fid_over_floor", "prd_auc", "step_time_ms", "peak_memory_mib"),
        "SCATTER": ("fid_over_floor", "dsc/all"),
    },
    "Training": {"LINE": ("gan/critic_loss", "gan/generator_loss", "unet/loss", "unet/validation_loss")},
}


def _charts() -> Iterator[dict[str, Any]]:
    """As MLflow writes down those that a person has drawn; it adds the others below."""
    for section, kinds in SECTIONS.items():
        for kind, metrics in kinds.items():
            common = {"type": kind, "metricSectionId": section, "deleted": False, "isGenerated": False}
            if kind == "SCATTER":
                x, y = ({"key": metric, "type": "METRIC"} for metric in metrics)
                name = " and ".join(metrics)
                yield common | {"uuid": name, "displayName": name, "xaxis": x, "yaxis": y, "runsCountToCompare": 100}
                continue
            for metric in metrics:
                yield common | {"uuid": metric, "displayName": metric, "metricKey": metric, "runsCountToCompare": 100}


# What MLflow's own "share view" leaves in an experiment. Where it does not know a key, it leaves it out.
_ROWS = {"searchFilter": "tags.level = 'cell'", "orderByKey": "metrics.`dsc/intracranial`", "orderByAsc": False}
_TABLE = _ROWS | {
    "selectedColumns": list(COLUMNS),
    "columnOrder": ["attributes.`Run Name`", *COLUMNS],
    "columnWidths": {"attributes.`Run Name`": 150, "attributes.`Created`": 130, **COLUMNS},
}
_CHARTS = _ROWS | {
    "compareRunCharts": list(_charts()),
    "compareRunSections": [
        {"uuid": name, "name": name, "display": True, "isReordered": False, "deleted": False, "isGenerated": False}
        for name in SECTIONS
    ],
    "isAccordionReordered": True,  # or sections are put into the order of their names
    "runsHiddenMode": "SHOW_ALL",
}
EXPERIMENT_TAGS = {
    # Not read by MLflow's own pages since they go by the address, and else by what a browser last chose; by older ones.
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": "dsc/intracranial",
    f"mlflow.sharedViewState.{TABLE}": json.dumps(_TABLE),
    f"mlflow.sharedViewState.{CHARTS}": json.dumps(_CHARTS),
}


def experiments_url(port: int) -> str:
    """The page that lists all runs."""
    return f"{_base(port)}/experiments?{TRAINING}"


def cells_url(port: int, experiment_id: str) -> str:
    """The table of a run's cells with the columns that matter, from the best intracranial DSC down."""
    return _view_url(port, experiment_id, "TABLE", TABLE)


def charts_url(port: int, experiment_id: str) -> str:
    """The same cells in charts: what counts, then their trainings."""
    return _view_url(port, experiment_id, "CHART", CHARTS)


def _view_url(port: int, experiment_id: str, mode: str, view: str) -> str:
    return f"{_base(port)}/experiments/{experiment_id}/runs?{TRAINING}&compareRunsMode={mode}&viewStateShareKey={view}"


def side_by_side_url(port: int, experiment_id: str, run_ids: Iterable[str]) -> str:
    """The page with everything of these cells, a column each."""
    runs, experiments = quote(json.dumps(list(run_ids))), quote(json.dumps([experiment_id]))
    return f"{_base(port)}/compare-runs?runs={runs}&experiments={experiments}&{TRAINING}"


def _base(port: int) -> str:
    return f"http://127.0.0.1:{port}/#"
