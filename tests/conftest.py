"""Options of the suite: `--benchmark` runs only timings, `--slow` adds statistical and long checks; shared files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vesselgan.data import phantom_subjects, save_volume
from vesselgan.networks import ResNet10


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--benchmark", action="store_true", help="run the speed and memory benchmarks, and only these")
    parser.addoption("--slow", action="store_true", help="also run statistical and long checks")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    benchmarks, slow = config.getoption("--benchmark"), config.getoption("--slow")

    def wanted(item: pytest.Item) -> bool:
        is_benchmark = item.get_closest_marker("benchmark") is not None
        return is_benchmark == bool(benchmarks) and (slow or item.get_closest_marker("slow") is None)

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four phantoms in the nnU-Net raw layout, without brain masks."""
    folder = tmp_path_factory.mktemp("scans")
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for index, subject in enumerate(phantom_subjects(4, (48, 48, 32), seed=1)):
        image, label = f"imagesTr/case_{index:03d}_0000.nii.gz", f"labelsTr/case_{index:03d}.nii.gz"
        save_volume(folder / image, subject.image, subject.affine)
        save_volume(folder / label, subject.label.astype(np.uint8), subject.affine)
    return folder


@pytest.fixture(scope="session")
def medicalnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as MedicalNet's, with weights of no meaning."""
    path = tmp_path_factory.mktemp("weights") / "resnet_10_23dataset.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in ResNet10().state_dict().items()}}, path)
    return path
