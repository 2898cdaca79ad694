"""Checkpoints of other people: the published names and shapes, and files that are no such thing."""

import hashlib
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paper_checkpoints import Shapes, batch_norm, one_number, paper_critic, paper_generator
from paths import TESTS
from torch import Tensor
from typer.testing import CliRunner

from benchmark.artifacts.generators import load_generator
from benchmark.commands import app
from vesselgan.errors import InputError
from vesselgan.networks import import_gan, import_medicalnet
from vesselgan.recipe import CORRECTED

GOLDEN = json.loads((TESTS / "golden" / "model.json").read_text())


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("spectral", [False, True])
def test_the_papers_checkpoint_at_its_own_size_fits_name_by_name(tmp_path: Path, prefix: str, spectral: bool) -> None:
    path = tmp_path / "epoch_99.pth"
    state = {
        "Discriminator_state_dict": one_number(paper_critic(256, spectral=spectral), prefix),
        "Generator_state_dict": one_number(paper_generator(256, (128, 128, 64)), prefix),
        "OptimizerD_state_dict": {"state": {}, "param_groups": [{"lr": 4e-4, "betas": (0, 0.9)}]},
        "OptimizerG_state_dict": {"state": {}, "param_groups": [{"lr": 2e-4, "betas": (0, 0.9)}]},
        "Scaler_dict": {"scale": 65536.0, "growth_factor": 2.0} if spectral else {},
    }
    torch.save(state, path)
    assert path.stat().st_size < 100_000
    imported = import_gan(path)
    assert (imported.generator.filters, imported.generator.latent) == (256, 128)
    counts = GOLDEN["parameter_counts"]["256"]
    assert sum(parameter.numel() for parameter in imported.generator.parameters()) == counts["generator"]
    assert imported.critic is not None
    assert sum(parameter.numel() for parameter in imported.critic.parameters()) == counts["critic"]
    assert imported.critic.norm == ("spectral" if spectral else "instance")
    assert imported.mixed_precision is spectral
    assert imported.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(parameter.detach().eq(0.5).all() for parameter in imported.critic.parameters())


def golden_state(case: dict[str, Any]) -> dict[str, Tensor]:
    """The golden file's weights under the names of the paper's code."""
    rng = np.random.default_rng(case["seed"])
    state = {}
    for name, shape in case["parameters"]:
        values = rng.standard_normal(int(np.prod(shape))).astype(np.float32).reshape(shape) * np.float32(0.05)
        state[name] = torch.from_numpy(values + np.float32(name.endswith("weight") and len(shape) == 1))
    return state


@pytest.mark.parametrize("variant", ["GP", "SN"])
def test_an_imported_generator_gives_the_paper_codes_output(tmp_path: Path, variant: str) -> None:
    case = GOLDEN["cases"][variant]["generator"]
    state = golden_state(case)
    for name, shape in paper_generator(case["ngf"], tuple(case["image_size"])).items():
        if name not in state:  # running statistics as at the start
            state[name] = torch.full(shape, float(name.endswith("running_var")))
    torch.save({"Generator_state_dict": state}, tmp_path / "g.pth")
    imported = import_gan(tmp_path / "g.pth", case["image_size"])
    assert imported.critic is None
    noise = np.random.default_rng(case["seed"] + 1).standard_normal((case["batch"], 128, 1, 1, 1)).astype(np.float32)
    with torch.no_grad():
        output = imported.generator.train()(torch.from_numpy(noise)).double().flatten()
    expected = case["train_mode_output"]
    for index, value in expected["samples"].items():
        assert float(output[int(index)]) == pytest.approx(value, abs=1e-5)
    assert float(output.abs().sum()) == pytest.approx(expected["sum_abs"], rel=1e-5)


@pytest.mark.parametrize("variant", ["GP", "SN"])
def test_an_imported_critic_gives_the_paper_codes_scores(tmp_path: Path, variant: str) -> None:
    case = GOLDEN["cases"][variant]["critic"]
    state = golden_state(case)
    for name, shape in paper_critic(case["ndf"], spectral=variant == "SN").items():
        if name not in state:  # the vectors of spectral norm
            state[name] = torch.nn.functional.normalize(torch.ones(shape), dim=0)
    generator = {name: torch.zeros(shape) for name, shape in paper_generator(8, (128, 128, 64)).items()}
    torch.save({"Generator_state_dict": generator, "Discriminator_state_dict": state}, tmp_path / "d.pth")
    critic = import_gan(tmp_path / "d.pth").critic
    assert critic is not None
    shape = (2, 2, *case["image_size"])
    real = np.random.default_rng(case["real"]["rng_seed"]).random(shape, dtype=np.float32) * 2 - 1
    with torch.no_grad():
        scores = critic(torch.from_numpy(real))
    torch.testing.assert_close(scores, torch.tensor(case["real"]["score"]), rtol=1e-5, atol=3e-5)


def published_medicalnet() -> Shapes:
    """Names and shapes of resnet_10_23dataset.pth without its prefix: MedicalNet's models/resnet.py, shortcut B."""
    shapes: Shapes = {"conv1.weight": (64, 1, 7, 7, 7), **batch_norm("bn1", 64)}
    for stage, (before, width) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], start=1):
        block = f"layer{stage}.0"
        shapes |= {f"{block}.conv1.weight": (width, before, 3, 3, 3), **batch_norm(f"{block}.bn1", width)}
        shapes |= {f"{block}.conv2.weight": (width, width, 3, 3, 3), **batch_norm(f"{block}.bn2", width)}
        if stage > 1:
            shapes |= {f"{block}.downsample.0.weight": (width, before, 1, 1, 1)}
            shapes |= batch_norm(f"{block}.downsample.1", width)
    return shapes


DECODER: Shapes = {
    "conv_seg.0.weight": (512, 32, 2, 2, 2),
    "conv_seg.0.bias": (32,),
    **batch_norm("conv_seg.1", 32),
    "conv_seg.3.weight": (32, 32, 3, 3, 3),
    **batch_norm("conv_seg.4", 32),
    "conv_seg.6.weight": (2, 32, 1, 1, 1),
}


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("more", ["", "decoder", "no counters"])
def test_medicalnets_file_fits_name_by_name(tmp_path: Path, kind: str, prefix: str, more: str) -> None:
    shapes = published_medicalnet() | (DECODER if more == "decoder" else {})
    if more == "no counters":  # a file of a PyTorch before 0.4.1
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / "resnet_10_23dataset.pth"
    state = {"state_dict": one_number(shapes, prefix)}
    torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    net, sha256 = import_medicalnet(path)
    learned = [shape for name, shape in published_medicalnet().items() if name.endswith(("weight", "bias"))]
    assert sum(parameter.numel() for parameter in net.parameters()) == sum(map(math.prod, learned))
    assert all(parameter.detach().eq(0.5).all() for parameter in net.parameters())
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


class Attack:
    """What a pickle can hold: a call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("load", [import_gan, import_medicalnet])
@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, kind: str, load: Any) -> None:
    path, content = tmp_path / "bad.pth", {"Generator_state_dict": Attack(tmp_path / "attacked")}
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(InputError, match=r"bad\.pth: not a file of .*; nothing in it was run") as refusal:
        load(path)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "attacked").exists()


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = {name: torch.zeros(shape) for name, shape in paper_generator(8, (32, 32, 16)).items()}
    del state["layer5.bias"]
    state["extra.weight"] = torch.zeros(3)
    state["layer2.1.weight"] = torch.zeros(4, 8, 5, 5, 5)
    torch.save({"Generator_state_dict": state}, tmp_path / "g.pth")
    with pytest.raises(InputError) as refusal:
        import_gan(tmp_path / "g.pth", (32, 32, 16))
    told = str(refusal.value)
    assert "1 missing: output.bias" in told
    assert "1 unexpected: extra.weight" in told
    assert "1 misshapen: blocks.0.0.weight (4, 8, 5, 5, 5) for (4, 8, 3, 3, 3)" in told


def test_a_wrong_patch_size_is_seen_in_the_shapes(tmp_path: Path) -> None:
    state = one_number(paper_generator(8, (32, 32, 16)))
    torch.save({"Generator_state_dict": state}, tmp_path / "g.pth")
    with pytest.raises(InputError, match=r"does not fit the paper's generator at \(128, 128, 64\).*linear\.weight"):
        import_gan(tmp_path / "g.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": torch.zeros(1)}, "no 'Generator_state_dict' in it"),
        ([1, 2], "holds a list"),
        ({"Generator_state_dict": {"a": 1}}, "something else than a dictionary of tensors"),
        ({"Generator_state_dict": {"a": torch.zeros(1)}}, "it is no network of the paper"),
        ({"Generator_state_dict": {"batch1.0.weight": torch.zeros(8), "linear1.0.weight": torch.zeros(4, 4)}}, "DP"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "g.pth")
    with pytest.raises(InputError, match=message) as refusal:
        import_gan(tmp_path / "g.pth")
    assert "\n" not in str(refusal.value)


def test_the_command_writes_what_the_synthesis_reads(tmp_path: Path) -> None:
    state = {name: torch.randn(shape) for name, shape in paper_generator(8, (32, 32, 16)).items()}
    torch.save({"Generator_state_dict": state}, tmp_path / "epoch_3.pth")
    arguments = ["import", str(tmp_path / "epoch_3.pth"), "--out", str(tmp_path / "gan"), "--patch", "32,32,16"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    family, sampler = load_generator(tmp_path / "gan", CORRECTED, "cpu")
    assert (family.name, sampler.precision) == ("wgan", "fp32")
    assert torch.equal(sampler.network.state_dict()["blocks.2.0.weight"], state["layer4.1.weight"])
    facts = json.loads((tmp_path / "gan/generator.json").read_text())
    digest = hashlib.sha256((tmp_path / "epoch_3.pth").read_bytes()).hexdigest()
    assert facts["source"] == {"file": "epoch_3.pth", "sha256": digest, "mixed_precision": False}
    assert not (tmp_path / "gan/critic.json").exists()
    bad = CliRunner().invoke(app, [*arguments[:-1], "32x32"])
    assert isinstance(bad.exception, InputError)


def test_the_weights_of_a_training_that_diverged_are_refused(tmp_path: Path) -> None:
    state = one_number(paper_generator(32, (16, 16, 16)))
    state["layer3.1.bias"] = torch.full((8,), math.nan)
    torch.save({"Generator_state_dict": state}, tmp_path / "g.pth")
    with pytest.raises(InputError, match=r"g\.pth: blocks\.1\.0\.bias holds NaN or infinity: the training diverged"):
        import_gan(tmp_path / "g.pth", (16, 16, 16))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"", r"is empty \(0 bytes\)"),
    ],
)
def test_what_stands_in_place_of_weights_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "epoch_99.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        import_gan(path)
