"""The work: each stage is a function of its options and inputs that writes files and returns values.

`STAGES` is the registry. A stage's version (benchmark.versions) rises when its code changes what it computes; `modules`
names the code that decides it, which a test compares with the version.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmark.stages import data, evaluation, external, gan, scoring, segmentation
from benchmark.stages.context import Context
from benchmark.stages.costs import measure
from benchmark.stages.verify import verify
from benchmark.versions import STAGE_VERSIONS

__all__ = ["STAGES", "Context", "Stage"]


@dataclass(frozen=True)
class Stage:
    """One kind of work."""

    name: str
    run: Callable[[Context], Mapping[str, Any]]
    modules: tuple[str, ...]

    @property
    def version(self) -> int:
        """Part of the key of every stage of this kind."""
        return STAGE_VERSIONS[self.name]


_SHARED = ("benchmark.stages.context", "vesselgan.recipe")
_DATA = ("vesselgan.data", *_SHARED)
_NETWORKS = ("vesselgan.networks", "vesselgan.training", *_SHARED)
_SCORING = (
    "benchmark.stages.scoring",
    "benchmark.pairs",
    "benchmark.scoring",
    "vesselgan.features",
    "vesselgan.networks.importing",
    "vesselgan.networks.resnet3d",
    "vesselgan.metrics",
    *_DATA,
)
_SEGMENTATION = (
    *("benchmark.stages.segmentation", "benchmark.pairs", "vesselgan.inference"),
    *_DATA,
    *_NETWORKS,
)

STAGES = {
    stage.name: stage
    for stage in (
        Stage("verify", verify, ("benchmark.stages.verify", "vesselgan.numerics", *_NETWORKS)),
        Stage("prepare", data.prepare, ("benchmark.stages.data", *_DATA)),
        Stage("train_gan", gan.train, ("benchmark.stages.gan", "benchmark.stages.course", *_DATA, *_NETWORKS)),
        Stage(
            "synthesise",
            gan.synthesise_pairs,
            ("benchmark.stages.gan", "benchmark.pairs", "vesselgan.synthesis", *_NETWORKS),
        ),
        Stage(
            "import_pairs",
            external.import_pairs,
            ("benchmark.stages.external", "benchmark.pairs", "vesselgan.data"),
        ),
        Stage("reference", scoring.reference, _SCORING),
        Stage("score", scoring.score, _SCORING),
        Stage("train_unet", segmentation.train, _SEGMENTATION),
        Stage(
            "evaluate",
            evaluation.evaluate,
            (
                *("benchmark.stages.evaluation", "benchmark.maps", "benchmark.vocabulary"),
                "vesselgan.metrics",
                *_SEGMENTATION,
            ),
        ),
        Stage("measure", measure, ("benchmark.stages.costs", "benchmark.measure", "benchmark.memory", *_NETWORKS)),
    )
}
