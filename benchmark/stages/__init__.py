"""The work: each stage is a function of its options and inputs that writes files and returns values.

`STAGES` is the registry. A stage's version (`artifacts.versions`) rises when its code changes what it computes;
`modules` names the code that decides it, which a test compares with the version.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmark.artifacts.versions import STAGE_VERSIONS
from benchmark.stages import (
    evaluate,
    evaluate_untrained,
    fit_untrained,
    import_pairs,
    measure,
    prepare,
    score,
    simulate_pairs,
    synthesise,
    train_gan,
    train_unet,
    verify,
)
from benchmark.stages.context import Context

__all__ = ["STAGES", "Context", "Stage"]


@dataclass(frozen=True)
class Stage:
    """One kind of work."""

    name: str
    run: Callable[[Context[Any]], Mapping[str, object]]  # each with options of its own
    modules: tuple[str, ...]

    @property
    def version(self) -> int:
        """Part of the key of every stage of this kind."""
        return STAGE_VERSIONS[self.name]


_SHARED = ("benchmark.stages.context", "vesselgan.recipe")
_DATA = ("vesselgan.data", *_SHARED)
_NETWORKS = ("vesselgan.networks", "vesselgan.settings", "vesselgan.training", *_SHARED)
_GENERATORS = ("benchmark.artifacts.generators", "vesselgan.families", *_NETWORKS)
_SCORING = (
    "benchmark.stages.score",
    "benchmark.artifacts.pairs",
    "benchmark.scoring.patch_sets",
    "benchmark.metrics",
    "vesselgan.features",
    "vesselgan.networks.importing",
    "vesselgan.networks.resnet3d",
    "vesselgan.metrics",
    *_DATA,
)
_SEGMENTATION = (
    *("benchmark.stages.train_unet", "benchmark.artifacts.pairs", "vesselgan.inference"),
    *_DATA,
    *_NETWORKS,
)
_EVALUATION = (
    *("benchmark.stages.evaluate", "benchmark.artifacts.error_maps", "benchmark.scoring.masks"),
    *("benchmark.metrics", "vesselgan.metrics"),
)

STAGES = {
    stage.name: stage
    for stage in (
        Stage("verify", verify.verify, ("benchmark.stages.verify", "vesselgan.numerics", *_GENERATORS)),
        Stage("prepare", prepare.prepare, ("benchmark.stages.prepare", *_DATA)),
        Stage(
            "train_gan",
            train_gan.train,
            ("benchmark.stages.train_gan", "benchmark.stages.training_course", *_DATA, *_GENERATORS),
        ),
        Stage(
            "synthesise",
            synthesise.synthesise_pairs,
            ("benchmark.stages.synthesise", "benchmark.artifacts.pairs", "vesselgan.synthesis", *_GENERATORS),
        ),
        Stage(
            "import_pairs",
            import_pairs.import_pairs,
            ("benchmark.stages.import_pairs", "benchmark.artifacts.pairs", "vesselgan.data"),
        ),
        Stage(
            "simulate_pairs",
            simulate_pairs.simulate_pairs,
            ("benchmark.stages.simulate_pairs", "benchmark.artifacts.pairs", *_DATA),
        ),
        Stage("reference", score.reference, _SCORING),
        Stage("score", score.score, _SCORING),
        Stage("train_unet", train_unet.train, _SEGMENTATION),
        Stage(
            "evaluate",
            evaluate.evaluate,
            (*_EVALUATION, *_SEGMENTATION),
        ),
        Stage(
            "fit_untrained",
            fit_untrained.fit_untrained,
            ("benchmark.stages.fit_untrained", "vesselgan.untrained", *_DATA),
        ),
        Stage(
            "evaluate_untrained",
            evaluate_untrained.evaluate_untrained,
            ("benchmark.stages.evaluate_untrained", "vesselgan.untrained", *_EVALUATION, *_DATA),
        ),
        Stage(
            "measure",
            measure.measure,
            (
                "benchmark.stages.measure",
                "vesselgan.profiling.timing",
                "vesselgan.profiling.step_counter",
                *_GENERATORS,
            ),
        ),
    )
}
