"""The first sight of a run in MLflow: addresses, and a table of cells with the columns that answer questions."""

import json
from collections.abc import Iterable
from urllib.parse import quote

__all__ = ["EXPERIMENT_TAGS", "cells_url", "experiments_url", "side_by_side_url"]

TRAINING = "workflowType=machine_learning"  # what MLflow shows in place of language models
VIEW = "cells"  # the name in the address
PARAMS = {"label": 90, "precision": 75, "filters": 60, "seed": 50}  # with widths in pixels: all fit on a laptop
METRICS = {"dsc/intracranial": 115, "dsc/all": 85, "fid_over_floor": 110, "step_time_ms": 100, "peak_memory_mib": 125}
COLUMNS = {
    f"{kind}.`{name}`": width
    for kind, columns in (("params", PARAMS), ("metrics", METRICS))
    for name, width in columns.items()
}

# What MLflow's own "share view" leaves in an experiment. Where it does not know a key, it leaves it out.
_STATE = {
    "selectedColumns": list(COLUMNS),
    "columnOrder": ["attributes.`Run Name`", *COLUMNS],
    "columnWidths": {"attributes.`Run Name`": 150, "attributes.`Created`": 130, **COLUMNS},
    "searchFilter": "tags.level = 'cell'",
    "orderByKey": "metrics.`dsc/intracranial`",
    "orderByAsc": False,
}
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # or MLflow asks whether it is about language models
    f"mlflow.sharedViewState.{VIEW}": json.dumps(_STATE),
}


def experiments_url(port: int) -> str:
    """The page that lists all runs."""
    return f"{_base(port)}/experiments?{TRAINING}"


def cells_url(port: int, experiment_id: str) -> str:
    """The table of a run's cells with the columns that matter, from the best intracranial DSC down."""
    return f"{_base(port)}/experiments/{experiment_id}/runs?{TRAINING}&compareRunsMode=TABLE&viewStateShareKey={VIEW}"


def side_by_side_url(port: int, experiment_id: str, run_ids: Iterable[str]) -> str:
    """The page with everything of these cells, a column each."""
    runs, experiments = quote(json.dumps(list(run_ids))), quote(json.dumps([experiment_id]))
    return f"{_base(port)}/compare-runs?runs={runs}&experiments={experiments}&{TRAINING}"


def _base(port: int) -> str:
    return f"http://127.0.0.1:{port}/#"
