"""No kernel is believed: wrong ones are found, got round, and told."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kernel_plants import wrong_convolution
from torch.nn import functional as F

from benchmark.results.numerics import numerics_sentences
from benchmark.stages import STAGES, Context
from benchmark.stages.verify import NumericsError, check, ways_of
from vesselgan import processor
from vesselgan.errors import InputError
from vesselgan.features import random_resnet10
from vesselgan.numerics import (
    TOLERANCES,
    Operation,
    OperationRecorder,
    check_operations,
    extractor_operations,
    find_remedies,
    remedied,
    trusted,
    unet_operations,
    wgan_operations,
)
from vesselgan.training import UNetConfig, UNetTrainer, WGANConfig, WGANTrainer, choose_precision

CONFIG = WGANConfig(patch_size=(32, 32, 16), filters=16, batch=4, steps=1, seed=0, precision="bf16")
OPTIONS = {
    **{"network": "wgan", "patch": [32, 32, 16], "filters": 16, "norm": "spectral", "precision": "bf16", "batch": 4},
    **{"synthesis_batch": 8, "private": False, "recipe": {"interpolate": "detached", "reductions": "float32"}},
}
SMALL = """
protocol: small
title: One small network of each kind
default_profile: tiny
profiles: {tiny: {patch: [32, 32, 16], filters: 8, batch: 2, unet: {filters: [4, 8], batch: 2}, inference: {batch: 2}}}
matrix: {variant: [SN-MP], seed: [0]}
"""
VERIFY = sys.modules["benchmark.stages.verify"]  # the package has a function of this name
LAST_LAYER = (16, 8, 3, 3, 3)  # of that critic: from 4x4x2 to 2x2x1 voxels


@pytest.fixture(scope="module")
def operations() -> list[Operation]:
    return wgan_operations(CONFIG, "cpu", synthesis_batch=8)


def real() -> torch.Tensor:
    return torch.rand(4, 2, 32, 32, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def operation(dtype: torch.dtype = torch.bfloat16, channels: tuple[int, int] = (8, 16)) -> Operation:
    """The forward convolution of a critic's last layer."""
    x = torch.zeros(4, channels[0], 4, 4, 2, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
    weight = torch.zeros(channels[1], channels[0], 3, 3, 3, dtype=dtype).contiguous(
        memory_format=torch.channels_last_3d
    )
    with OperationRecorder() as recorder:
        F.conv3d(x, weight, stride=2, padding=1)
    return recorder.operations[0]


@pytest.fixture(params=["fake", "real"])
def tensors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether all computations count as large, or none."""
    monkeypatch.setattr("vesselgan.training.counting._LARGE", 0 if request.param == "fake" else 1 << 40)


@pytest.mark.usefixtures("tensors")
@pytest.mark.parametrize("settings", [{}, {"norm": "instance"}, {"precision": "fp32"}, {"norm": "none"}])
def test_what_is_recorded_are_the_operations_of_a_real_step(settings: dict[str, Any]) -> None:
    config = replace(CONFIG, **settings)
    trainer = WGANTrainer(config, "cpu")
    with OperationRecorder() as recorder:
        trainer.step(real())
        for mode in (True, False):
            trainer.generator.train(mode)
            with torch.no_grad(), trainer.precision.autocast():
                trainer.generator(torch.zeros(8, config.latent))
    assert set(recorder.operations) == set(wgan_operations(config, "cpu", synthesis_batch=8))
    names = {one.name for one in recorder.operations}
    assert {"convolution", "convolution_backward", "addmm"} <= names


@pytest.mark.usefixtures("tensors")
def test_what_is_recorded_are_the_operations_of_unet_and_extractor() -> None:
    config = UNetConfig(batch=2, max_steps=1, validate_every=1, seed=0, filters=(4, 8), precision="bf16", dropout=0)
    trainer = UNetTrainer(config, "cpu")
    patches = torch.rand(2, 1, 16, 16, 16)
    with OperationRecorder() as recorder:
        trainer.step(patches, (patches > 0.5).float())
    recorded = set(unet_operations(config, "cpu", (16, 16, 16), inference_batches=[2]))
    # Of one channel, the layout is a matter of taste.
    assert {str(one).rpartition(", channels")[0] for one in recorder.operations} <= {
        str(one).rpartition(", channels")[0] for one in recorded
    }
    extractor = random_resnet10()
    with OperationRecorder() as recorder, torch.no_grad():
        extractor.pool(extractor.net.eval(), torch.zeros(2, 1, 16, 16, 16))
    assert set(recorder.operations) == set(extractor_operations("cpu", (16, 16, 16), batches=[2], stages=2))


def test_fp16_is_checked_in_fp16() -> None:
    formats = {one.dtype for one in wgan_operations(replace(CONFIG, precision="fp16"), "cpu", synthesis_batch=8)}
    assert formats == {torch.float16, torch.float32}


def test_right_kernels_are_right_with_room_to_spare(operations: list[Operation]) -> None:
    findings = check_operations(operations, "cpu")
    ways = {one.finding.operation: one.way for one in find_remedies(findings, "cpu")}
    for finding in findings:  # on a processor whose kernels are wrong: those are found, and got round
        assert finding.error < TOLERANCES[finding.format] / 3 or ways[finding.operation] is not None, finding


@pytest.mark.parametrize("kernel", ["the library's", "planted"])
def test_the_layer_at_which_a_library_is_known_to_be_wrong_is_right_or_found_and_got_round(kernel: str) -> None:
    """oneDNN 3.12 with AMX: there this shape is the real thing, and where the library's is right, one is planted."""
    for channels in ((64, 128), (128, 256)):
        planted = (channels[1], channels[0], 3, 3, 3)
        with wrong_convolution(planted) if kernel == "planted" else nullcontext():
            known = operation(channels=channels)
            findings = check_operations([known], "cpu")
            remedies = find_remedies(findings, "cpu")
            assert [one.finding for one in remedies] == [one for one in findings if one.wrong]
            assert remedies or kernel != "planted"
            ways = {known: None} | {one.finding.operation: one.way for one in remedies}
            x, weight = known.random_arguments(torch.Generator().manual_seed(0), torch.device("cpu"))[:2]
            with remedied(ways, "cpu"):
                results = [F.conv3d(x, weight, stride=2, padding=1).float() for _ in range(20)]
            reference = F.conv3d(x.float(), weight.float(), stride=2, padding=1)
        assert all(float((result - reference).abs().max() / reference.std()) < 0.05 for result in results)


def test_a_kernel_that_is_wrong_in_half_of_its_calls_is_found() -> None:
    found = 0
    with wrong_convolution(LAST_LAYER):
        for seed in range(100):
            found += check_operations([operation()], "cpu", seed=seed)[0].wrong
    assert found >= 99


def test_a_wrong_result_of_the_right_size_is_found() -> None:
    def shifted(one: Operation, arguments: list[Any]) -> list[torch.Tensor]:
        return [result.roll(1, 0) for result in one(arguments)]

    (finding,) = check_operations([operation()], "cpu", call=shifted)
    assert finding.wrong


def test_a_result_that_is_not_written_to_the_end_is_found() -> None:
    def unfinished(one: Operation, arguments: list[Any]) -> list[torch.Tensor]:
        (result,) = one(arguments)
        left = torch.empty_like(result)
        left[:-1] = result[:-1]
        return [left]

    (finding,) = check_operations([operation(torch.float32)], "cpu", call=unfinished)
    assert finding.wrong


def test_training_goes_round_a_wrong_kernel_and_not_without(operations: list[Operation]) -> None:
    healthy = WGANTrainer(CONFIG, "cpu")
    expected = [float(healthy.step(real())["critic_loss"]) for _ in range(4)]
    with wrong_convolution(LAST_LAYER):
        checked = check(operations, "cpu", "bf16", threads=1)
        spoiled = WGANTrainer(CONFIG, "cpu")
        assert not all(torch.isfinite(spoiled.step(real())["critic_loss"]) for _ in range(4))
        with remedied(checked.ways, "cpu"):
            trainer = WGANTrainer(CONFIG, "cpu")
            losses = [float(trainer.step(real())["critic_loss"]) for _ in range(4)]
    assert checked.remedies
    assert {str(remedy.finding.operation).split(",")[0] for remedy in checked.remedies} <= {
        "convolution 4x8x4x4x2 by 16x8x3x3x3 by 16",
        "convolution 4x8x4x4x2 by 16x8x3x3x3",
    }
    assert losses == pytest.approx(expected, rel=1e-2)


def test_a_training_through_the_detour_is_the_same_where_nothing_is_wrong(operations: list[Operation]) -> None:
    ways: dict[Operation, str | None] = dict.fromkeys(operations)
    plain, detour = WGANTrainer(CONFIG, "cpu"), WGANTrainer(CONFIG, "cpu")
    for _ in range(2):
        plain.step(real())
    with remedied(ways, "cpu"):
        for _ in range(2):
            detour.step(real())
    for one, other in zip(plain.critic.parameters(), detour.critic.parameters(), strict=True):
        assert torch.equal(one, other)


def test_beside_a_wrong_kernel_what_was_not_checked_is_computed_in_float32() -> None:
    arguments = operation().random_arguments(torch.Generator().manual_seed(0), torch.device("cpu"))
    x, weight = arguments[:2]
    with remedied({}, "cpu"):
        unchecked = F.conv3d(x, weight, stride=2, padding=1)
    assert torch.equal(unchecked, F.conv3d(x.float(), weight.float(), stride=2, padding=1).bfloat16())


def test_every_way_gives_the_gradients_of_a_penalty() -> None:
    x = torch.randn(2, 8, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(16, 8, 3, 3, 3, dtype=torch.float64, requires_grad=True)

    def gradients() -> list[torch.Tensor]:
        score = F.conv3d(x, weight, stride=2, padding=1).square().sum()
        (inner,) = torch.autograd.grad(score, x, create_graph=True)
        return list(torch.autograd.grad(inner.square().sum(), (x, weight)))

    with OperationRecorder() as recorder:
        expected = gradients()
    for way in ("reversed axes", "channels first"):
        with remedied(dict.fromkeys(recorder.operations, way), "cpu"):
            for found, wanted in zip(gradients(), expected, strict=True):
                torch.testing.assert_close(found, wanted)


def stage(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    runtime = {"device": "cpu", "threads": 1}
    context = Context(OPTIONS, {}, runtime, {}, folder, lambda done, total, what: None)
    return json.loads(json.dumps(dict(STAGES["verify"].run(context)), allow_nan=False))  # strict JSON


def test_the_stage_names_faults_ways_and_remedy(tmp_path: Path) -> None:
    right = stage(tmp_path / "right")
    with wrong_convolution(LAST_LAYER, share=1):
        wrong = stage(tmp_path / "wrong")
    assert {fault["operation"] for fault in right["faults"]} < {fault["operation"] for fault in wrong["faults"]}
    fault = next(fault for fault in wrong["faults"] if "16x8x3x3x3" in fault["operation"])
    assert fault["error"] is None, "NaN is no number in JSON"
    assert wrong["remedy"] is not None
    assert fault["way"] in ("reversed axes", "channels first", "float32") or fault["way"].startswith("instructions")
    assert len(ways_of(tmp_path / "wrong")) == wrong["operations"]
    assert {"bf16", "fp32"} == wrong["worst"].keys()
    (*_, sentence) = numerics_sentences([wrong])
    assert f"of {wrong['operations']} operations of a wgan are wrong in this PyTorch" in sentence
    assert sentence.startswith("bf16 on this processor: ")


def test_where_nothing_gets_round_a_wrong_kernel_the_format_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = [operation()]
    monkeypatch.setattr("vesselgan.numerics.remedies.WAYS", {})
    monkeypatch.setattr(VERIFY, "narrower_instruction_sets", list)
    with wrong_convolution(LAST_LAYER, share=1), pytest.raises(NumericsError) as caught:
        check(everything, "cpu", "bf16", threads=1)
    line = str(caught.value)
    assert "\n" not in line
    for part in ("bf16 is wrong on", "PyTorch 2", "convolution 4x8x4x4x2 by 16x8x3x3x3", "pytorch/pytorch#169688"):
        assert part in line


def test_a_narrower_instruction_set_is_tried_in_a_process_that_starts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vesselgan.numerics.remedies.WAYS", {})
    monkeypatch.setattr(VERIFY, "narrower_instruction_sets", lambda: ["AVX2"])
    with wrong_convolution(LAST_LAYER, share=1):  # in this process alone, as with an instruction set of its own
        checked = check([operation()], "cpu", "bf16", threads=1)
    assert checked.instructions == "AVX2"


def test_operations_survive_json(operations: list[Operation]) -> None:
    for one in operations:
        assert Operation.from_plain(json.loads(json.dumps(one.to_plain()))) == one


@pytest.mark.parametrize(
    ("flags", "limit", "bf16", "fp16"),
    [
        ({"avx2"}, None, None, None),
        ({"avx2", "avx512bw", "avx512_vnni"}, None, None, None),
        ({"avx2", "avx512bw", "avx512_bf16"}, None, "avx512_bf16", None),
        ({"avx2", "avx512bw", "avx512_bf16"}, "AVX512_CORE", None, None),
        ({"avx2", "avx512bw", "avx512_bf16", "amx_bf16", "amx_tile"}, None, "amx_bf16", None),
        ({"avx2", "avx512bw", "avx512_bf16", "amx_bf16", "amx_tile"}, "AVX512_CORE_BF16", "avx512_bf16", None),
        ({"avx512_fp16", "avx512_bf16", "amx_bf16", "amx_fp16"}, "avx10_1_512_amx", "amx_bf16", "avx512_fp16"),
        ({"asimdhp", "bf16"}, None, "bf16", "asimdhp"),
    ],
)
def test_native_formats_are_read_from_the_processors_flags(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], limit: str | None, bf16: str | None, fp16: str | None
) -> None:
    monkeypatch.setattr(processor, "processor_flags", lambda: frozenset(flags))
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert processor.native_instructions("bf16") == bf16
    assert processor.native_instructions("fp16") == fp16
    assert choose_precision("bf16", "cpu").native is (bf16 is not None)


def test_narrower_sets_are_below_what_the_processor_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = frozenset({"avx2", "avx512bw", "avx512_bf16", "amx_tile", "amx_bf16"})
    monkeypatch.setattr(processor, "processor_flags", lambda: flags)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert processor.narrower_instruction_sets() == ["AVX512_CORE_BF16", "AVX512_CORE", "AVX2"]
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert processor.narrower_instruction_sets() == ["AVX512_CORE", "AVX2"]
    assert processor.narrowest(["AVX512_CORE_BF16", "AVX2", "AVX512_CORE"]) == "AVX2"


def test_the_command_prints_a_table_for_a_bug_report(tmp_path: Path) -> None:
    protocol = tmp_path / "small.yaml"
    protocol.write_text(SMALL)
    command = [sys.executable, "-m", "benchmark", "check-numerics", str(protocol), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "PyTorch 2" in done.stdout
    assert {"wgan", "unet", "extractor"} <= set(done.stdout.split())
    assert (done.returncode == 1) == ("wrong; right by" in done.stdout)


def test_outside_a_run_what_is_computed_is_checked_first_in_inference_mode_too() -> None:
    x, weight = operation().random_arguments(torch.Generator().manual_seed(0), torch.device("cpu"))[:2]

    @torch.inference_mode()
    def convolved() -> torch.Tensor:
        return F.conv3d(x, weight, stride=2, padding=1)

    expected = convolved()
    with wrong_convolution(LAST_LAYER, share=1):
        assert not torch.isfinite(convolved()).all()
        with trusted(convolved, "cpu") as got_round:
            assert [one.way is not None for one in got_round] == [True]
            torch.testing.assert_close(convolved(), expected, rtol=0.01, atol=0.05)
    with trusted(convolved, "cpu") as got_round:
        assert got_round == [] or got_round[0].way is not None


def test_outside_a_run_what_cannot_be_got_round_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = operation().random_arguments(torch.Generator().manual_seed(0), torch.device("cpu"))[:2]
    monkeypatch.setattr("vesselgan.numerics.remedies.WAYS", {})
    refused = pytest.raises(InputError, match=r"bf16 is wrong on this machine .*check-numerics")
    with (
        wrong_convolution(LAST_LAYER, share=1),
        refused,
        trusted(lambda: F.conv3d(x, weight, stride=2, padding=1), "cpu"),
    ):
        pass
