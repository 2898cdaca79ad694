"""Parity with the paper's own networks: outputs, penalties, gradients and parameter counts."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from paths import TESTS
from torch import Tensor, nn

from vesselgan.networks import Critic, Generator
from vesselgan.networks.upsampling import Upsampling
from vesselgan.training.losses import CriticLoss, critic_loss, gradient_penalty

GOLDEN = json.loads((TESTS / "golden" / "model.json").read_text())
NORMS = {"GP": "instance", "SN": "spectral"}
LAYOUTS = {"default": torch.contiguous_format, "channels last": torch.channels_last_3d}


def fill(network: nn.Module, case: dict[str, Any]) -> None:
    """Weights by the formula of the golden file, in its order of parameters."""
    rng = np.random.default_rng(case["seed"])
    with torch.no_grad():
        for parameter, (name, shape) in zip(network.parameters(), case["parameters"], strict=True):
            assert list(parameter.shape) == shape, name
            values = rng.standard_normal(parameter.numel()).astype(np.float32).reshape(shape) * np.float32(0.05)
            if name.endswith("weight") and len(shape) == 1:
                values += 1
            parameter.copy_(torch.from_numpy(values))
        for name, buffer in network.named_buffers():
            if name.endswith(("_u", "_v")):
                buffer.copy_(nn.functional.normalize(torch.ones_like(buffer), dim=0))


def assert_matches(tensor: Tensor, expected: dict[str, Any], tolerance: float) -> None:
    """Every sample within tolerance of the tensor's largest sample, and the sum of magnitudes relatively."""
    assert list(tensor.shape) == expected["shape"]
    flat = tensor.detach().double().flatten()
    samples = torch.tensor(list(expected["samples"].values()), dtype=torch.float64)
    found = flat[[int(index) for index in expected["samples"]]]
    torch.testing.assert_close(found, samples, rtol=0, atol=tolerance * float(samples.abs().max()))
    assert float(flat.abs().sum()) == pytest.approx(expected["sum_abs"], rel=tolerance, abs=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("upsampling", ["fused", "plain"])
@pytest.mark.parametrize("variant", NORMS)
def test_the_generator_gives_the_paper_codes_output(variant: str, upsampling: Upsampling, layout: str) -> None:
    case = GOLDEN["cases"][variant]["generator"]
    generator = Generator(case["image_size"], case["ngf"], upsampling=upsampling)
    fill(generator, case)
    generator.to(memory_format=LAYOUTS[layout])
    rng = np.random.default_rng(case["seed"] + 1)
    noise = torch.from_numpy(rng.standard_normal((case["batch"], 128, 1, 1, 1)).astype(np.float32))
    with torch.no_grad():
        assert_matches(generator(noise), case["train_mode_output"], 1e-5)
        generator.eval()
        assert_matches(generator(noise), case["eval_mode_output_after_one_train_forward"], 1e-5)


class Scored:
    """A critic of the golden file with the scores of its forwards, real, fake and interpolate."""

    def __init__(self, variant: str, layout: str, *, folded: bool = False) -> None:
        self.case = GOLDEN["cases"][variant]["critic"]
        self.critic = Critic(self.case["image_size"], self.case["ndf"], norm=NORMS[variant], folded=folded)
        fill(self.critic, self.case)
        self.critic.to(memory_format=LAYOUTS[layout])
        self.real, self.fake = (
            self.patches(self.case[role]["rng_seed"]).to(memory_format=LAYOUTS[layout]) for role in ("real", "fake")
        )
        self.scores: list[Tensor] = []

    def patches(self, seed: int) -> Tensor:
        shape = (2, 2, *self.case["image_size"])
        return torch.from_numpy(np.random.default_rng(seed).random(shape, dtype=np.float32) * 2 - 1)

    def __call__(self, patches: Tensor) -> Tensor:
        score: Tensor = self.critic(patches)
        self.scores.append(score.detach())
        return score

    def loss(self) -> CriticLoss:
        epsilon = torch.tensor(self.case["epsilon"])
        return critic_loss(self, self.real, self.fake, epsilon, weight=10.0, penalty_norm="batch")


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", NORMS)
def test_the_critic_gives_the_paper_codes_scores_loss_and_gradients(variant: str, layout: str, folded: bool) -> None:
    scored = Scored(variant, layout, folded=folded)
    case = scored.case
    terms = scored.loss()
    terms.loss.backward()
    for score, expected in zip(
        scored.scores, (case["real"]["score"], case["fake"]["score"], case["interpolate_score"]), strict=True
    ):
        torch.testing.assert_close(score, torch.tensor(expected), rtol=1e-5, atol=1e-5 * max(map(abs, expected)))
    # The spectral critic amplifies rounding about 60-fold, and another layout sums in another order.
    tolerance = 1e-4 if layout == "default" and not folded else 5e-4
    assert float(terms.penalty.detach()) == pytest.approx(case["penalty_paper_code"], rel=tolerance)
    assert float(terms.loss.detach()) == pytest.approx(case["critic_loss_paper_code"], rel=tolerance)
    for parameter, (name, _) in zip(scored.critic.parameters(), case["parameters"], strict=True):
        assert parameter.grad is not None
        if name == "layer5.bias":
            assert float(parameter.grad) == pytest.approx(0, abs=1e-6)
        elif NORMS[variant] == "instance" and name.endswith("bias"):
            # An instance norm removes the bias before it, so this gradient is rounding error in both programs.
            assert float(parameter.grad.abs().max()) < 0.02
        else:
            assert_matches(parameter.grad, case["parameter_gradients"][name], 2e-4 if folded else 1e-4)


@pytest.mark.parametrize("variant", NORMS)
def test_the_penalty_per_sample_matches_the_golden_value(variant: str) -> None:
    scored = Scored(variant, "channels last")
    with torch.no_grad():  # the power iterations of the real and the fake forward
        scored(scored.real)
        scored(scored.fake)
    epsilon = torch.full((2, 1, 1, 1, 1), scored.case["epsilon"])
    penalty = gradient_penalty(scored, scored.real, scored.fake, epsilon, reduction="sample")
    assert float(penalty.detach()) == pytest.approx(scored.case["penalty_per_sample"], rel=5e-4)


@pytest.mark.parametrize("filters", [256, 512, 1024])
def test_parameter_counts_at_the_papers_size_are_exact(filters: int) -> None:
    expected = GOLDEN["parameter_counts"][str(filters)]
    with torch.device("meta"):
        generator, critic = Generator((128, 128, 64), filters), Critic((128, 128, 64), filters)
    assert sum(parameter.numel() for parameter in generator.parameters()) == expected["generator"]
    assert sum(parameter.numel() for parameter in critic.parameters()) == expected["critic"]
