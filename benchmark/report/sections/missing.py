"""Cells that are not done, each with the reason."""

from dataclasses import dataclass

from benchmark.results.format import Results

__all__ = ["MissingCell", "missing_cells"]


@dataclass(frozen=True)
class MissingCell:
    """A cell that failed, is still to come, was left out or is unfinished."""

    cell: str
    state: str
    reason: str

    @property
    def is_to_come(self) -> bool:
        """Whether a run that goes on will make it."""
        return self.state == "still to come"


def missing_cells(results: Results) -> list[MissingCell]:
    """In the order of the cells."""
    return [
        MissingCell(cell["id"], *_state(results, cell["id"], cell["error"] if cell["status"] == "failed" else None))
        for cell in results["cells"]
        if cell["status"] != "done"
    ]


def _state(results: Results, cell: str, error: str | None) -> tuple[str, str]:
    if error is not None:
        return "failed", error
    if cell in results["reproduce"]["left_out"]:
        return "left out", "no command asked for it (-k)"
    if results["is_running"]:
        return "still to come", "the run goes on"
    return "unfinished", "the run was stopped before; the same command goes on"
