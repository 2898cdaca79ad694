"""How fast labelled volumes are written, and in how much memory: 32x32x16 voxels, 64 filters, two workers."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import HELPERS
from safetensors.torch import save_file

from vesselgan import Generator

COUNT, PAIRS_PER_S = 1500, 50
MEASURED = """
import sys
from benchmark.cli import main
from process_memory import mib
sys.argv = ["benchmark", *sys.argv[1:]]
try:
    main()
finally:
    print("peak", round(mib("VmHWM")))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator as `import` leaves it; what its weights are makes no difference to its speed."""
    folder = tmp_path_factory.mktemp("generator")
    torch.manual_seed(0)
    generator = Generator((32, 32, 16), filters=64)
    save_file(
        {name: tensor.contiguous() for name, tensor in generator.state_dict().items()}, folder / "generator.safetensors"
    )
    facts = {"patch_size": [32, 32, 16], "filters": 64, "latent": 128, "precision": "fp32"}
    (folder / "generator.json").write_text(json.dumps(facts))
    return folder


def written(checkpoint: Path, out: Path, layout: str, count: int) -> tuple[float, int]:
    """Pairs per second as the command says (without its start), and the process's peak memory in MiB."""
    options = [
        "--format",
        layout,
        "--spacing",
        "1,1,1",
        "--workers",
        "2",
        "--count",
        str(count),
        "--recipe",
        "corrected",
    ]
    command = [sys.executable, "-c", MEASURED, "synthesise", str(checkpoint), "--out", str(out), *options]
    output = subprocess.run(command, cwd=HELPERS, capture_output=True, text=True, check=True).stdout
    speed, peak = re.search(r"(\d+) a second", output), re.search(r"peak (\d+)", output)
    assert speed
    assert peak
    return float(speed[1]), int(peak[1])


@pytest.mark.benchmark
@pytest.mark.parametrize("layout", ["nnunet", "bids", "npz"])
def test_fifty_pairs_a_second_are_written_in_memory_that_does_not_grow(
    checkpoint: Path, tmp_path: Path, layout: str
) -> None:
    few = written(checkpoint, tmp_path / "few", layout, 300)
    many = written(checkpoint, tmp_path / "many", layout, COUNT)
    print(
        f"\n{layout}: {few[0]:.0f} and {many[0]:.0f} pairs/s for 300 and {COUNT} pairs, peak {few[1]} and {many[1]} MiB"
    )
    assert many[0] >= PAIRS_PER_S
    assert many[1] < few[1] + 40
