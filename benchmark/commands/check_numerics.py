"""`check-numerics`: is what this machine's library computes right, operation by operation?"""

import time
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from benchmark.commands.options import Device, ProfileName, app, complain, console
from benchmark.environment import choose_device, library_versions, machine
from benchmark.plan import check_options
from benchmark.protocol.cells import cells_of
from benchmark.protocol.load import choose_profile, find_protocol, load_protocol
from vesselgan.processor import usable_instructions

__all__ = ["check_numerics"]

WRONG = 1


@app.command("check-numerics")
def check_numerics(
    protocol: Annotated[
        str, typer.Argument(metavar="PROTOCOL", help="Whose networks to check: a protocol file or name")
    ] = "paper",
    profile: ProfileName = None,
    device: Device = "auto",
) -> None:
    """Compare every convolution and matrix product of a protocol's networks with a wider format, here and now.

    Nothing is trained or kept. Exit status 1 if one is wrong: the table is for a bug report to PyTorch.
    """
    import torch

    from benchmark.stages.verify import NumericsError, check, operations_of

    loaded = load_protocol(find_protocol(protocol))
    name, settings = choose_profile(loaded, profile)
    chosen = choose_device(device)
    threads = settings.threads
    torch.set_num_threads(threads)
    where = machine(chosen)
    versions = ", ".join(f"{library} {version}" for library, version in library_versions(chosen).items())
    console.print(
        f"{where.get('gpu', where['cpu'])}, {', '.join(usable_instructions()) or 'no known instruction set'}; "
        f"{versions}; {threads} thread(s); {loaded.protocol}, profile {name}",
        soft_wrap=True,
        highlight=False,
    )
    table = Table("network", "format", "operation", "worst error", "ms", "verdict", box=None)
    started, wrong = time.monotonic(), 0
    for options in check_options(settings, cells_of(loaded, settings)):
        try:
            checked = check(operations_of(options, chosen), chosen, options["precision"], threads=threads)
        except NumericsError as error:
            complain(str(error))
            wrong += 1
            continue
        for finding in checked.findings:
            way = f"instructions {checked.instructions}" if checked.instructions else checked.ways[finding.operation]
            verdict = f"[bold red]wrong; right by {way}[/]" if finding.wrong else "right"
            wrong += finding.wrong
            table.add_row(
                options["network"],
                finding.format,
                escape(str(finding.operation)),
                f"{finding.error:.1e}",
                f"{1000 * finding.seconds:.2f}",
                verdict,
            )
    console.print(table)
    console.print(f"{table.row_count} operations, {wrong} wrong, {time.monotonic() - started:.1f} s", highlight=False)
    raise typer.Exit(WRONG if wrong else 0)
