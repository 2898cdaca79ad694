"""`synthesise`: a trained generator -> a folder of labelled volumes that other tools read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import Progress

from benchmark.commands.options import (
    Cell,
    Device,
    Runs,
    command,
    console,
    log_console,
    numbers,
    spacing_of,
    tell_remedies,
)
from benchmark.environment import choose_device, usable_cores
from vesselgan.errors import InputError

if TYPE_CHECKING:
    from benchmark.trained.datasheet import Datasheet
    from benchmark.trained.generator import FoundGenerator
    from vesselgan.export import Layout, MakePairs, Pairs

__all__ = ["SynthesiseOptions", "synthesise"]

_ARBITRARY = (0.0, 1000.0)  # black and white where the training data's own are not known


@dataclass(frozen=True)
class SynthesiseOptions:
    """What `synthesise` is asked for."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_CHECKPOINT",
            help="A run (paper-laptop), a train_gan folder, a folder of `import`, or a .pth of the paper's code",
        ),
    ]
    count: Annotated[int, typer.Option("--count", help="How many pairs of image and label")]
    out: Annotated[Path, typer.Option("--out", help="Folder of the dataset: new, empty, or to be continued")]
    layout: Annotated[Literal["nnunet", "bids", "npz"], typer.Option("--format", help="How files are named")] = "nnunet"
    cell: Cell = None
    runs: Runs = Path("runs")
    seed: Annotated[int | None, typer.Option("--seed", help="Of the noise; the run's own if left out")] = None
    batch: Annotated[int | None, typer.Option("--batch", help="Pairs made together; the run's own if left out")] = None
    spacing: Annotated[
        str | None, typer.Option("--spacing", metavar="X,Y,Z", help="Voxel size in mm; the training data's if left out")
    ] = None
    intensities: Annotated[
        str | None,
        typer.Option("--intensities", metavar="LOW,HIGH", help="Black and white; the training data's if left out"),
    ] = None
    patch: Annotated[str, typer.Option("--patch", metavar="X,Y,Z", help="Patch size of a .pth")] = "128,128,64"
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="How an imported generator generates; paper_code if left out")
    ] = None
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="TEXT", help="Licence of the dataset; says that there is none")
    ] = None
    name: Annotated[str, typer.Option("--name", help="Name of the dataset")] = "Synthetic TOF-MRA patches"
    workers: Annotated[
        int | None, typer.Option("--workers", help="Batches at work at the same time; as many as cores if left out")
    ] = None
    device: Device = "auto"


@command
def synthesise(asked: SynthesiseOptions) -> None:
    """Write labelled synthetic volumes. Stopped at any moment, the same command goes on where it was."""
    for option, number in (("--count", asked.count), ("--batch", asked.batch), ("--workers", asked.workers)):
        if number is not None and number < 1:
            raise InputError(f"{option} {number}: give 1 or more")
    if asked.seed is not None and asked.seed < 0:
        raise InputError(f"--seed {asked.seed}: give 0 or more")
    size = numbers(asked.patch, "--patch", 3, int)
    spacing_mm = spacing_of(asked.spacing)
    ends = numbers(asked.intensities, "--intensities", 2, float) if asked.intensities else None

    from benchmark.trained.datasheet import NO_LICENCE, Dataset, datasheet, render_datasheet
    from benchmark.trained.generator import find_generator
    from vesselgan.export import Intensities, PairSource, write_dataset
    from vesselgan.numerics import trusted

    where = choose_device(asked.device)
    found = find_generator(
        asked.source, runs=asked.runs, cell=asked.cell, patch=size, recipe=asked.recipe, device=where
    )
    dataset = Dataset(
        name=asked.name,
        count=asked.count,
        layout=asked.layout,
        seed=found.seed if asked.seed is None else asked.seed,
        batch=asked.batch or found.batch,
        spacing_mm=spacing_mm or found.spacing_mm,
        spacing_given=spacing_mm is not None,
        intensities=Intensities(*(ends or found.intensity_range or _ARBITRARY)),
        intensities_given=ends is not None,
        licence=asked.licence or NO_LICENCE,
        device=where,
    )
    if dataset.spacing_mm is None and dataset.layout != "npz":
        raise InputError(
            f"{asked.source}: the voxel size of its training data is not known; give it with --spacing X,Y,Z in mm"
        )
    sheet = datasheet(found, dataset)
    workers = asked.workers or (2 if where == "cuda" else usable_cores())
    source = PairSource(_maker(found, sheet), dataset.count, dataset.batch, workers)
    started = monotonic()
    with (
        trusted(_one_batch(found, sheet), where) as got_round,
        Progress(console=log_console, transient=True, disable=not log_console.is_terminal) as progress,
    ):
        tell_remedies(got_round)
        task = progress.add_task("synthetic pairs", total=dataset.count)
        written = write_dataset(
            asked.out,
            _layout(found, sheet),
            source,
            sheet,
            extra={"datasheet.md": render_datasheet(sheet).encode()},
            progress=lambda done: progress.update(task, completed=done),
        )
    seconds = monotonic() - started
    speed = f"{written} written now, {written / seconds:.0f} a second" if written else "all were there already"
    console.print(
        f"{dataset.count} pairs in {asked.out} ({speed}); read {asked.out / 'datasheet.md'}",
        soft_wrap=True,
        highlight=False,
    )


def _layout(found: "FoundGenerator", sheet: "Datasheet") -> "Layout":
    """Whatever stands in the files themselves comes from the datasheet, which a continued command compares."""
    from benchmark import __version__
    from vesselgan.export import About, BidsLayout, Intensities, NnunetLayout, NpzLayout, VolumeEncoder

    shape, ends, spacing_mm = sheet["patch_size"], sheet["intensities"], sheet["spacing_mm"]
    dtype = Intensities(ends["black"], ends["white"]).dtype
    about = About(
        name=sheet["name"],
        description=f"TOF-MRA patches and vessel labels, synthetic, of the generator {found.name}; see datasheet.md",
        licence=sheet["licence"],
        reference=sheet["reference"],
        version=__version__,
    )
    if sheet["layout"] == "npz" or spacing_mm is None:  # which only npz can do without
        return NpzLayout(about, shape, dtype)
    stamp = f"synthetic (vesselgan {__version__}), generator {found.sha256[:12]}, seed {sheet['generation']['seed']}"
    volumes = VolumeEncoder(shape, dtype, spacing_mm, stamp)
    return NnunetLayout(about, volumes) if sheet["layout"] == "nnunet" else BidsLayout(about, volumes)


def _one_batch(found: "FoundGenerator", sheet: "Datasheet") -> Callable[[], object]:
    """What computes one batch, in the mode in which all will be: D7 leaves the generator in training mode."""
    batch = int(sheet["generation"]["batch"])
    return lambda: list(found.sampler.sample(batch, seed=0, batch=batch))


def _maker(found: "FoundGenerator", sheet: "Datasheet") -> "MakePairs":
    """Pairs of consecutive indices, as they are to be stored."""
    import numpy as np
    import torch

    from vesselgan.export import Intensities

    generation, ends = sheet["generation"], sheet["intensities"]
    intensities = Intensities(ends["black"], ends["white"])

    def make(pairs: range) -> "Pairs":
        # Batches are at work side by side; a batch alone on several threads would also be rounded in another way.
        torch.set_num_threads(1)
        seed, batch = generation["seed"], generation["batch"]
        batches = list(found.sampler.sample(pairs.stop, seed=seed, batch=batch, start=pairs.start))
        images = np.concatenate([batch.images for batch in batches])
        return intensities.stored(images), np.concatenate([batch.labels for batch in batches])

    return make
