"""Which stage needs which, what enters which key, and what each takes while it runs. Pure, and imports no torch."""

from benchmark.plan.build import build_plan
from benchmark.plan.checks import EXTRACTOR_STAGES, FEATURE_BATCH, check_options
from benchmark.plan.plan import CellPlan, Findings, NodeFacts, Plan, Resources

__all__ = [
    "EXTRACTOR_STAGES",
    "FEATURE_BATCH",
    "CellPlan",
    "Findings",
    "NodeFacts",
    "Plan",
    "Resources",
    "build_plan",
    "check_options",
]
