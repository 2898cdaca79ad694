"""`segment`: a trained U-Net of a run on anybody's scans."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from benchmark.commands.options import Cell, Device, Nan, Runs, command, console, log_console, tell_remedies
from benchmark.environment import choose_device
from vesselgan.errors import InputError

__all__ = ["SegmentOptions", "segment"]


@dataclass(frozen=True)
class SegmentOptions:
    """What `segment` is asked for."""

    source: Annotated[
        str, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run (paper-laptop), or a train_unet folder")
    ]
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Scans of any size, orientation and format, or folders of them"),
    ]
    out: Annotated[Path, typer.Option("--out", help="Folder for the results", file_okay=False)]
    cell: Cell = None
    runs: Runs = Path("runs")
    probability: Annotated[bool, typer.Option("--probability", help="Write the probabilities, too")] = False
    resample: Annotated[
        bool, typer.Option("--resample", help="Show the network voxels of the size that it learned from")
    ] = False
    nan: Nan = None
    overlap: Annotated[float, typer.Option("--overlap", help="Share that neighbouring tiles have in common")] = 0.5
    batch: Annotated[int, typer.Option("--batch", min=1, help="Tiles at a time")] = 4
    device: Device = "auto"


@command
def segment(asked: SegmentOptions) -> None:
    """Segment the vessels of scans: NAME_vessels.nii.gz on the voxels of each image. Nothing is ever overwritten."""
    if not 0 <= asked.overlap < 1:
        raise InputError(f"--overlap {asked.overlap}: needs a share from 0 to below 1")
    from benchmark.trained.segmenter import find_unet, images_of, open_segmenter, output_names
    from vesselgan.numerics import trusted

    images = images_of(asked.images)
    segmenter = open_segmenter(
        find_unet(asked.source, runs=asked.runs, cell=asked.cell),
        choose_device(asked.device),
        overlap=asked.overlap,
        batch=asked.batch,
    )
    names = output_names(images)
    problems = []
    for image in images:  # all of them, before anything is spent on one
        kinds = ["vessels", "probability"] if asked.probability else ["vessels"]
        there = [path for kind in kinds if (path := asked.out / f"{names[image]}_{kind}.nii.gz").exists()]
        problems += [f"{path}: exists already; remove it or choose another --out" for path in there]
        try:
            volume = segmenter.read(image, asked.nan)
        except InputError as error:
            problems.append(str(error))
            continue
        warning = None if asked.resample else segmenter.warning(image, volume)
        if warning:
            log_console.print(f"warning: {warning}; --resample bridges that", soft_wrap=True, highlight=False)
    if problems:
        raise InputError("\n".join(problems))
    with (
        trusted(segmenter.one_batch, segmenter.device) as got_round,
        Progress(console=log_console, transient=True, disable=not log_console.is_terminal) as progress,
    ):
        tell_remedies(got_round)
        for image in images:
            task = progress.add_task(escape(image.name))
            done = segmenter.segment(
                image,
                segmenter.read(image, asked.nan),
                asked.out / names[image],
                probability=asked.probability,
                resample=asked.resample,
                progress=lambda at, total, task=task: progress.update(task, completed=at, total=total),  # type: ignore[misc]
            )
            console.print(
                f"{done.files[0]}: {done.vessel_ml:.3g} ml of vessels, {done.vessel_share:.2%} of the image",
                soft_wrap=True,
                highlight=False,
            )
