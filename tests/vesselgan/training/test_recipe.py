"""Every deviation that the training reads, switched alone: the difference that it makes, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vesselgan.networks import Critic, Generator, initialise
from vesselgan.recipe import resolve_recipe
from vesselgan.training import Privacy, WGANConfig, WGANTrainer, losses, train_wgan

SIZE = (16, 16, 16)
BATCH = 4


def trainer(recipe: dict[str, Any], **settings: Any) -> WGANTrainer:
    base: dict[str, Any] = {"patch_size": SIZE, "filters": 8, "latent": 8, "steps": 9, "seed": 3}
    resolved = resolve_recipe("corrected", recipe)
    return WGANTrainer(WGANConfig(**{**base, "recipe": resolved, **settings}), "cpu")


def real() -> Tensor:
    return torch.rand(BATCH, 2, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def state(network: torch.nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_d1_the_penalty_norm_reaches_the_training() -> None:
    batch, sample = (trainer({"penalty_norm": norm}).step(real()) for norm in ("batch", "sample"))
    assert torch.equal(batch["wasserstein"], sample["wasserstein"])
    # Four gradients of norm n: 10 (2n - 1)^2 against 10 (n - 1)^2.
    norm = 1 - (float(sample["penalty"]) / 10) ** 0.5
    assert float(batch["penalty"]) == pytest.approx(10 * (2 * norm - 1) ** 2, rel=0.05)


@pytest.mark.parametrize(("epsilon", "shape"), [("batch", ()), ("sample", (BATCH, 1, 1, 1, 1))])
def test_d2_epsilon_is_drawn_for_the_batch_or_for_each_sample(
    epsilon: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    original = losses.gradient_penalty

    def spy(critic: Any, real: Tensor, fake: Tensor, epsilon: Tensor, *rest: Any, **named: Any) -> Tensor:
        drawn.append(epsilon)
        return original(critic, real, fake, epsilon, *rest, **named)

    monkeypatch.setattr(losses, "gradient_penalty", spy)
    trainer({"epsilon": epsilon}).step(real())
    assert [tuple(value.shape) for value in drawn] == [shape]
    assert bool(((drawn[0] >= 0) & (drawn[0] <= 1)).all())
    assert drawn[0].unique().numel() == drawn[0].numel()


def test_d3_an_attached_interpolate_costs_generator_gradients_and_changes_no_number() -> None:
    attached, detached = (trainer({"interpolate": kind}) for kind in ("attached", "detached"))
    attached.update_critic(real())
    detached.update_critic(real())
    assert all(parameter.grad is not None for parameter in attached.generator.parameters())
    assert all(parameter.grad is None for parameter in detached.generator.parameters())
    attached.update_generator(BATCH)
    detached.update_generator(BATCH)
    assert same(state(attached.generator), state(detached.generator))
    first, second = (trainer({"interpolate": kind}).step(real()) for kind in ("attached", "detached"))
    assert first == second


@pytest.mark.parametrize(("update", "updates"), [("after_loop", 1), ("inside_loop", 3)])
def test_d4_three_critic_passes_train_once_after_the_loop_or_three_times_inside_it(update: str, updates: int) -> None:
    looped = trainer({"critic_update": update}, critic_steps=3)
    looped.step(real())
    counts = {int(entry["step"]) for entry in looped.state_dict()["critic_optimiser"]["state"].values()}
    assert counts == {updates}


def test_d4_makes_no_difference_at_one_critic_step() -> None:
    after, inside = (trainer({"critic_update": update}) for update in ("after_loop", "inside_loop"))
    after.step(real())
    inside.step(real())
    assert same(state(after.critic), state(inside.critic))


@pytest.mark.parametrize("norm", ["spectral", "instance"])
def test_d10_init_after_spectral_norm_leaves_the_frameworks_weights_in_the_critic(norm: Any) -> None:
    spread = {}
    for init in ("after_norm", "before_norm"):
        torch.manual_seed(0)
        critic = Critic((32, 16, 16), filters=64, norm=norm)
        initialise(critic, resolve_recipe("corrected", {"critic_init": init}))
        spread[init] = float(dict(critic.named_parameters())[_first_weight(critic)].std().detach())
    assert spread["before_norm"] == pytest.approx(0.05, rel=0.15)
    default = (1 / (3 * 2 * 27)) ** 0.5  # PyTorch's uniform(-a, a) with a = 1/sqrt(fan in): sd a / sqrt(3)
    assert spread["after_norm"] == pytest.approx(default if norm == "spectral" else 0.05, rel=0.15)


def _first_weight(critic: Critic) -> str:
    return next(name for name, parameter in critic.named_parameters() if parameter.ndim == 5)


def test_d10_reaches_the_training() -> None:
    after, before = (trainer({"critic_init": init}) for init in ("after_norm", "before_norm"))
    assert not same(state(after.critic), state(before.critic))
    assert same(state(after.generator), state(before.generator))


@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_d11_gamma_starts_around_its_mean(mean: float) -> None:
    torch.manual_seed(0)
    generator = Generator(SIZE, filters=256)
    initialise(generator, resolve_recipe("corrected", {"gamma_mean": mean}))
    assert float(generator.norm.weight.mean().detach()) == pytest.approx(mean, abs=0.02)
    assert float(generator.norm.weight.std().detach()) == pytest.approx(0.05, rel=0.2)
    trained = trainer({"gamma_mean": mean}).generator
    assert float(trained.norm.weight.mean().detach()) == pytest.approx(mean, abs=0.1)


def test_d12_low_reductions_overflow_in_the_first_float16_step_and_float32_ones_do_not() -> None:
    settings: dict[str, Any] = {"precision": "fp16", "patch_size": (32, 32, 16), "filters": 32}
    patches = torch.rand(BATCH, 2, 32, 32, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    trainers = {kind: trainer({"reductions": kind}, **settings) for kind in ("low", "float32")}
    before = state(trainers["low"].generator), state(trainers["low"].critic)
    for kind, skipped in {"low": True, "float32": False}.items():
        trainers[kind].step(patches)
        assert same(before[0], state(trainers[kind].generator)) is skipped
        assert same(before[1], state(trainers[kind].critic)) is skipped
        scale = trainers[kind].precision.scaler.get_scale()
        assert scale == (32768 if skipped else 65536)


@pytest.mark.parametrize("kind", ["low", "float32"])
def test_d12_low_readings_have_the_digits_of_the_format(kind: str) -> None:
    reading = trainer({"reductions": kind}, precision="bf16").step(real())["wasserstein"]
    assert torch.equal(reading, reading.bfloat16().float()) is (kind == "low")


def test_d12_has_no_effect_in_float32() -> None:
    assert trainer({"reductions": "low"}).step(real()) == trainer({"reductions": "float32"}).step(real())


@pytest.mark.parametrize(("kind", "seen"), [("full", [3, 4]), ("nets_only", [0, 1])])
def test_d13_a_resumed_training_goes_on_or_begins_its_random_numbers_again(
    kind: Any, seen: list[int], tmp_path: Path
) -> None:
    recipe = resolve_recipe("corrected", {"resume_state": kind})
    config = WGANConfig(patch_size=SIZE, filters=8, latent=8, steps=3, seed=3, precision="fp16", recipe=recipe)
    whole = WGANTrainer(config, "cpu")
    for _ in range(3):
        whole.step(real())
    whole.precision.scaler.update(4096.0)  # a loss scale that the training came to
    resumed = WGANTrainer(config, "cpu")
    resumed.load_state_dict(whole.state_dict())
    assert resumed.precision.scaler.get_scale() == (4096 if kind == "full" else 65536)
    same_next_step = whole.step(real())["wasserstein"] == resumed.step(real())["wasserstein"]
    assert bool(same_next_step) is (kind == "full")  # other noise

    steps = []

    def batch(step: int) -> Tensor:
        steps.append(step)
        return real()

    train_wgan(config, lambda step: real(), device="cpu", checkpoint=tmp_path / "wgan.pt")
    longer = WGANConfig(patch_size=SIZE, filters=8, latent=8, steps=5, seed=3, precision="fp16", recipe=recipe)
    train_wgan(longer, batch, device="cpu", checkpoint=tmp_path / "wgan.pt")
    assert steps == seen  # and another order of the data


@pytest.mark.parametrize(("kind", "updates"), [("one", 3), ("two", 6)])
def test_d14_a_private_critic_pass_makes_one_noisy_update_or_two(kind: str, updates: int) -> None:
    private = trainer({"dp_updates": kind}, norm="none", privacy=Privacy(), critic_steps=3)
    private.step(real())
    counts = {int(entry["step"]) for entry in private.state_dict()["critic_optimiser"]["state"].values()}
    assert counts == {updates}


def test_d14_the_second_update_sees_the_fake_patches_alone() -> None:
    """Without noise, and with a clipping norm that nothing reaches, the two differ in what a gradient is taken of."""
    quiet = Privacy(noise_multiplier=1e-9, clip_norm=1e6, weight_clip=1e3)
    gradients = {}
    for kind in ("one", "two"):
        private = trainer({"dp_updates": kind}, norm="none", privacy=quiet, lr_critic=1e-12)
        private.update_critic(real())
        gradients[kind] = private.critic.score.bias.grad
    assert gradients["one"] is not None
    assert gradients["two"] is not None
    # The bias adds the same to real and fake: a joint update cancels it, the update on the fake patches does not.
    assert float(gradients["one"].abs()) == pytest.approx(0, abs=1e-2)
    assert float(gradients["two"]) == pytest.approx(1, abs=1e-2)
