"""Training of a generator on real pairs."""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import numpy as np

from benchmark.artifacts.generators import FACTS, kept_folder, save_generator, trained_config
from benchmark.artifacts.options import TrainGANOptions
from benchmark.artifacts.reading import Step, read_steps
from benchmark.stages.context import Context, rejected_steps, sound_checkpoint, step_record, throttled
from benchmark.stages.training_course import CourseRecorder
from vesselgan.data import open_store
from vesselgan.families import Family, Sampler, Task
from vesselgan.training import choose_precision

__all__ = ["train"]

# Of a step's readings, what is no loss.
BOOKKEEPING = ("step", "loss_scale", "outcome", "score_train", "score_held_out", "score_gap")


def train(context: Context[TrainGANOptions]) -> Mapping[str, object]:
    """Train one generator; writes `generator.safetensors`, `generator.json`, `steps.jsonl` and `course.npz`.

    The generator as it was after each of the shares in the option `kept` is written to `at/SHARE/`.
    The stage keeps the name that finished runs have: it trains a generator of any family.
    """
    store = open_store(context.inputs["data"] / "store")
    family, config, recipe = trained_config(context.options, len(store.patches("train")))
    progress = throttled(context.progress)
    shares = {max(1, round(share * config.steps)): share for share in context.options.get("kept", ())}

    def keep(steps_done: int, sampler: Sampler) -> None:
        folder = kept_folder(context.folder, shares[steps_done])
        folder.mkdir(parents=True, exist_ok=True)
        save_generator(folder, family, sampler)

    with step_record(context.folder / "steps.jsonl") as record:

        def on_step(step: int, values: Mapping[str, float]) -> None:
            record(step, values)
            progress(step + 1, config.steps, f"{family.title} steps")

        task = Task(
            store,
            recipe,
            context.device,
            checkpoint=sound_checkpoint(context.folder),
            on_step=on_step,
            observe=CourseRecorder(context.folder / "course.npz"),
            keep=keep,
            keep_after=shares,
        )
        trained = family.train(config, task)
    for share in shares.values():
        if not (kept_folder(context.folder, share) / FACTS).is_file():
            raise RuntimeError(f"no generator was kept after {share:g} of the training; delete {context.folder}")
    save_generator(context.folder, family, trained.sampler)
    steps = read_steps(context.folder / "steps.jsonl")
    gaps = [step["score_gap"] for step in steps if "score_gap" in step]
    return {
        "steps": config.steps,
        "native_precision": choose_precision(config.precision, context.device).native,
        "steps_rejected": rejected_steps(steps),
        "mean_of_last_tenth": _means(steps[-max(1, len(steps) // 10) :]),
        "last_score_gap": gaps[-1] if gaps else None,
        **(_course(family, config, shares) if shares else {}),
        **trained.facts,
    }


class Course(TypedDict):
    """Of a generator that was kept on its way."""

    kept: dict[str, int]
    step_flops: int


def _course(family: Family[Any], config: Any, shares: Mapping[int, float]) -> Course:
    """After which steps the generator was kept, and what each step took, counted on fake tensors."""
    flops = family.step_cost(family.sized(config)).flops
    return {"kept": {f"{share:g}": steps for steps, share in shares.items()}, "step_flops": flops}


def _means(steps: Iterable[Step]) -> dict[str, float | None]:
    """The mean of each loss, without values that were no numbers; None where there are none."""
    known: dict[str, list[float]] = {}
    for step in steps:
        for name, value in step.items():
            if name not in BOOKKEEPING and not name.endswith("gradient_norm"):
                known.setdefault(name, []).extend([] if value is None else [value])
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}
