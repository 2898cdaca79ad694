"""What the commands share: the application, the console, options that more than one of them takes, and their end."""

import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from benchmark.words import printable
from vesselgan.errors import InputError

if TYPE_CHECKING:
    from vesselgan.numerics import Remedied

__all__ = [
    "Address",
    "Cell",
    "Data",
    "Device",
    "Expression",
    "Gpus",
    "Layout",
    "Maps",
    "Name",
    "Nan",
    "Out",
    "PlainConsole",
    "ProfileName",
    "ProtocolName",
    "RunName",
    "Runs",
    "Spacing",
    "Weights",
    "app",
    "command",
    "complain",
    "console",
    "log_console",
    "numbers",
    "pairs_of",
    "report_folder",
    "spacing_of",
    "tell_remedies",
    "tell_results",
]

T = TypeVar("T")
Options = TypeVar("Options")

app = typer.Typer(
    name="python -m benchmark",
    help="Check, compare and use 3D generative models of labelled brain-vessel MRI.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


class PlainConsole(Console):
    """Prints text as it is: names of files and cells may hold brackets, which rich takes for markup."""

    def print(self, *objects: Any, markup: bool | None = None, **options: Any) -> None:
        """`markup=True` is for text with colours, in which every name is escaped. Cells of tables have markup."""
        text_alone = all(isinstance(each, str) for each in objects)
        super().print(*objects, markup=False if markup is None and text_alone else markup, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Of tables, too: a name may hold what a terminal obeys."""
        return super().render_str(printable(text), **options)

    def print_columns(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table of plain text, however long: rich takes a second for a thousand rows."""
        texts = [[printable(cell) for cell in row] for row in (header, *rows)]
        widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
        padded = (
            (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)) for row in texts
        )
        self.out("\n".join(f" {'  '.join(cells)}".rstrip() for cells in padded), highlight=False)


# Away from a terminal, tables are for other programs and for logs: nothing is folded at 80 columns.
console = PlainConsole(width=None if sys.stdout.isatty() else 200)
log_console = PlainConsole(stderr=True)  # for progress, which is no part of the output


def _protocols(incomplete: str) -> list[str]:
    """For the shell, which completes the names of files by itself where none of these fits."""
    from benchmark.protocol.load import packaged_protocols

    return sorted(path.stem for path in packaged_protocols() if path.stem.startswith(incomplete))


def _runs(context: typer.Context, incomplete: str) -> list[str]:
    folder = Path(context.params.get("out") or Path()) / "runs"
    return sorted(path.parent.name for path in folder.glob("*/run.json") if path.parent.name.startswith(incomplete))


ProtocolName = Annotated[
    str,
    typer.Argument(
        metavar="PROTOCOL", help="A protocol file, or the name of a packaged one: paper", autocompletion=_protocols
    ),
]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name, PROTOCOL-PROFILE: paper-laptop", autocompletion=_runs)
]
Out = Annotated[Path, typer.Option("--out", help="Folder that holds runs/ and reports/", file_okay=False)]
ProfileName = Annotated[
    str | None, typer.Option("--profile", help="A profile of the protocol; its default one if left out")
]
Expression = Annotated[
    str | None, typer.Option("-k", metavar="EXPR", help="Only cells that match: 'SN and not MP', 's0'")
]
Name = Annotated[
    str | None, typer.Option("--name", help="Name of the report's folder; made of both folders' if left out")
]
Nan = Annotated[
    float | None, typer.Option("--nan", help="What NaN voxels of the images become; they are refused otherwise")
]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of labelled TOF-MRA; the embedded phantom if left out")
]
Layout = Annotated[
    str,
    typer.Option(
        "--layout",
        help="How the data's files are named: auto, bids, costa, folders, ixi, msd, nnunet, pegasus, smile-uhura, "
        "topbrain, topcow, tubetk, or a YAML file",
    ),
]
Spacing = Annotated[
    str | None,
    typer.Option("--spacing", metavar="X,Y,Z", help="Resample the data to this voxel size in mm, such as 0.5,0.5,0.7"),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="MedicalNet's resnet_10_23dataset.pth, or 'hub' to download it")
]
Cell = Annotated[str | None, typer.Option("--cell", metavar="ID", help="Which of a run's cells: SN_f64_s0")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds the runs", file_okay=False)]
Device = Annotated[
    str, typer.Option("--device", metavar="DEVICE", help="Where networks run: auto, cpu, cuda, or one GPU: cuda:1")
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Of a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; with --engine ray"),
]
Maps = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="HERE=THERE", help="Where a folder of this machine lies on the cluster's; repeatable"
    ),
]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, help="GPUs of this machine to share out, a stage each")]


def command(function: Callable[[Options], None]) -> Callable[[Options], None]:
    """Make a command of a function of one dataclass, whose fields are its options.

    typer wants a parameter for each option; beyond eight they are one object.
    """
    (parameter,) = inspect.signature(function, eval_str=True).parameters.values()
    options: Callable[..., Options] = parameter.annotation

    def run(**given: Any) -> None:
        function(options(**given))

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = get_type_hints(options, include_extras=True)
    run.__signature__ = inspect.signature(options)  # type: ignore[attr-defined]  # what typer reads
    app.command()(run)
    return function


def report_folder(out: Path, command: str, folders: Mapping[str, Path], name: str | None) -> Path:
    """Where the report of two folders goes, by the key of results.json that names each.

    Raises InputError where the report of other folders is there, and for a name that is no folder's.
    """
    first, second = (folder.resolve().name for folder in folders.values())
    chosen = name or f"{command}-{first}-{second}"
    if Path(chosen).name != chosen or chosen in ("", ".", ".."):
        raise InputError(f"--name {chosen!r}: give a name without /, for a folder in {out / 'reports'}")
    folder = out / "reports" / chosen
    try:
        earlier = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        known = [str(earlier[key]) for key in folders]
    except (OSError, ValueError, KeyError, TypeError):
        return folder
    if [Path(path).resolve() for path in known] != [path.resolve() for path in folders.values()]:
        raise InputError(f"{folder}: holds the report of {' and '.join(known)}; give this one a name with --name")
    return folder


def tell_results(page: Path, show: Callable[[], None], *, as_json: bool) -> None:
    """The results.json beside a page and nothing else, or what `show` prints and where the page is."""
    if as_json:
        print((page.parent / "results.json").read_text(encoding="utf-8"))
        return
    show()
    console.print(f"report: {page}", soft_wrap=True, highlight=False)


def pairs_of(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`--map` as absolute folders here and there. Raises InputError."""
    pairs = []
    for text in texts:
        here, _, there = text.partition("=")
        if not here or not there.startswith("/"):
            raise InputError(
                f"--map {text!r}: give a folder of this machine and its absolute path on the nodes: HERE=THERE"
            )
        pairs.append((str(Path(here).resolve()), there))
    return tuple(pairs)


def spacing_of(text: str | None) -> tuple[float, float, float] | None:
    """`--spacing` as numbers. Raises InputError."""
    if text is None:
        return None
    x, y, z = numbers(text, "--spacing", 3, float)
    if not all(0.01 <= mm <= 20 for mm in (x, y, z)):
        raise InputError(f"--spacing {text!r}: give three sizes in mm from 0.01 to 20, such as 0.5,0.5,0.7")
    return x, y, z


def tell_remedies(got_round: "Sequence[Remedied]") -> None:
    """A line on stderr for each operation that this machine's library computes wrongly, and what was done."""
    for remedy in got_round:
        log_console.print(
            f"warning: {remedy.finding.format} on this machine: {remedy.finding.operation} is wrong in this PyTorch; "
            f"computed by {remedy.way}",
            soft_wrap=True,
            highlight=False,
        )


def complain(text: str) -> None:
    """One `error:` line on stderr per line of text. A name of a file is told byte by byte, in whatever encoding."""
    for line in printable(text).splitlines():
        print(f"error: {line}", file=sys.stderr)


def numbers(text: str, option: str, count: int, kind: Callable[[str], T]) -> tuple[T, ...]:
    """The numbers in `1,2,3`, of a kind such as `int`. Raises InputError unless there are `count` of them."""
    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != count:
        raise InputError(
            f"{option} {text!r}: give {count} {'whole ' if kind is int else ''}numbers with commas between"
        )
    return found
