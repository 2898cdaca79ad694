"""Counted memory and operations: hand-made cases, and prediction against a real step."""

import pytest
import torch

from vesselgan.profiling.step_counter import StepCounter, predict_step
from vesselgan.profiling.timing import peak_tensor_bytes
from vesselgan.training import WGANConfig, WGANTrainer

KIB = 1024


def test_live_bytes_follow_what_is_made_and_dropped() -> None:
    given = torch.zeros(KIB, dtype=torch.uint8)
    with StepCounter() as counter:
        counter.watch(given)
        assert counter.live == KIB
        made = given + 1
        view = made[:10]
        assert counter.live == 2 * KIB, "a view holds no memory of its own"
        del made
        assert counter.live == 2 * KIB, "the view keeps it alive"
        del view
        assert counter.live == KIB
    assert counter.peak == 2 * KIB


def test_operations_of_a_product_are_counted() -> None:
    a, b = torch.zeros(3, 5), torch.zeros(5, 7)
    with StepCounter() as counter:
        a @ b
    assert counter.flops == 2 * 3 * 5 * 7


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("norm", ["instance", "spectral"])
def test_the_predicted_peak_is_that_of_a_real_step(precision: str, norm: str) -> None:
    config = WGANConfig(patch_size=(32, 32, 16), steps=1, seed=0, filters=16, norm=norm, precision=precision, batch=2)
    trainer = WGANTrainer(config, "cpu")
    real = torch.zeros(2, 2, 32, 32, 16)
    trainer.step(real)
    with peak_tensor_bytes(trainer, real) as peak:
        trainer.step(real)
    predicted = predict_step(config)
    assert predicted.peak_bytes == pytest.approx(peak(), rel=1e-3)
    assert predicted.flops > 0


def test_the_papers_size_is_predicted_without_its_memory() -> None:
    config = WGANConfig(patch_size=(128, 128, 64), steps=1, seed=0, filters=1024, precision="fp16", batch=4)
    cost = predict_step(config)
    parameters = 289_123_714 + 18_850_433
    assert cost.peak_bytes > 4 * 4 * parameters, (
        "weights, gradients and two moments are float32 even in mixed precision"
    )
    assert cost.flops > 1e12
