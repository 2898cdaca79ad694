"""Training of the 3D Wasserstein GAN with gradient penalty (Subramaniam et al. 2022; Gulrajani et al. 2017)."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.networks import Critic, CriticNorm, Generator, initialise, place
from vesselgan.recipe import CORRECTED, Recipe
from vesselgan.training.checkpoint import load_checkpoint, save_checkpoint
from vesselgan.training.losses import CriticLoss, critic_loss, generator_loss
from vesselgan.training.precision import PrecisionName, choose_precision
from vesselgan.training.randomness import generator_for, global_random
from vesselgan.training.reporting import OnStep, StepReporter

__all__ = ["StepLog", "WGANConfig", "WGANTrainer", "train_wgan"]


@dataclass(frozen=True, kw_only=True)
class WGANConfig:
    """Everything that decides what a training computes; defaults are the paper's.

    ``patch_size`` in voxels, ``betas`` and learning rates of Adam, ``batch`` for whoever draws the batches. ``plain``
    takes the paper's own step: the same losses but for rounding, several times slower; the reference for speed.
    """

    patch_size: tuple[int, int, int]
    steps: int
    seed: int
    filters: int = 512
    latent: int = 128
    norm: CriticNorm = "spectral"
    precision: PrecisionName = "fp32"
    batch: int = 4
    critic_steps: int = 1
    lr_generator: float = 2e-4
    lr_critic: float = 4e-4
    betas: tuple[float, float] = (0.0, 0.9)
    penalty_weight: float = 10.0
    recipe: Recipe = CORRECTED
    plain: bool = False


class StepLog(NamedTuple):
    """One step's readings as 0-d tensors on the training's device; reading them is what waits for a GPU."""

    critic_loss: Tensor
    generator_loss: Tensor
    penalty: Tensor
    wasserstein: Tensor
    loss_scale: Tensor  # of the GradScaler; 1 but in fp16


class WGANTrainer:
    """Generator, critic and their optimisers; ``step`` is one iteration of the paper's loop.

    All randomness is drawn from (seed, step, role): initial weights, noise, interpolation weights. So ``state_dict`` is
    networks, optimisers, scaler and step number, and a training that is resumed from it continues to the bit on the
    same machine and thread count.

    Raises InputError for sizes, norms, formats or devices that do not work.
    """

    def __init__(self, config: WGANConfig, device: torch.device | str) -> None:
        if config.critic_steps < 1:
            raise InputError(f"critic_steps is {config.critic_steps}; it must be at least 1")
        self.config = config
        self.device = torch.device(device)
        self.precision = choose_precision(config.precision, self.device)
        self.steps_done = 0
        # The first is the paper's layout; in the second, PyTorch's fast kernels also serve the backward pass.
        self._layout = torch.contiguous_format if config.plain else torch.channels_last_3d
        # Drawn on the CPU, so that every device starts from the same weights.
        with global_random(config.seed, 0, "weights"):
            self.generator = Generator(
                config.patch_size, config.filters, config.latent, upsampling="plain" if config.plain else "fused"
            )
            float32_score = config.recipe.reductions == "float32"
            self.critic = Critic(
                config.patch_size,
                config.filters,
                norm=config.norm,
                float32_score=float32_score,
                folded=not config.plain,
            )
            initialise(self.generator, config.recipe)
            initialise(self.critic, config.recipe)
        for network in (self.generator, self.critic):
            place(network, self.device, self._layout)
        self._generator_optimiser = self._adam(self.generator, config.lr_generator)
        self._critic_optimiser = self._adam(self.critic, config.lr_critic)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every step has the same shapes

    def step(self, real: Tensor) -> StepLog:
        """One iteration on real pairs (B, 2, X, Y, Z): ``critic_steps`` critic updates, then one of the generator."""
        batch = len(real)
        terms = self.update_critic(real.to(self.device, non_blocking=True).to(memory_format=self._layout))
        self._free_gradients(self._critic_optimiser)
        loss = self.update_generator(batch)
        self._free_gradients(self._generator_optimiser)
        # The scale as a tensor: get_scale() would wait for the GPU.
        loss_scale = self.precision.scaler.scale(torch.ones((), device=self.device))
        self.precision.scaler.update()
        self.steps_done += 1
        return StepLog(
            critic_loss=terms.loss,
            generator_loss=loss,
            penalty=terms.penalty,
            wasserstein=terms.wasserstein,
            loss_scale=loss_scale,
        )

    def update_critic(self, real: Tensor) -> CriticLoss:
        """The critic's part of an iteration; every pass sees the same real pairs and fresh noise (as published)."""
        scaler, last = self.precision.scaler, self.config.critic_steps - 1
        for index in range(self.config.critic_steps):
            self._critic_optimiser.zero_grad()
            terms = self._critic_terms(real, index)
            torch.autograd.backward(scaler.scale(terms.loss))
            if index == last or self.config.recipe.critic_update == "inside_loop":
                scaler.step(self._critic_optimiser)
                if index != last:
                    scaler.update()  # a scaler takes one step per optimiser between updates
        # Detached, for the graph holds patches that the generator's part has better use for the memory of.
        return CriticLoss(*(term.detach() for term in terms))

    def update_generator(self, batch: int) -> Tensor:
        """The generator's part of an iteration; returns its loss."""
        self._generator_optimiser.zero_grad()
        # Only the plain step computes the critic's gradients here, which nothing uses.
        self.critic.requires_grad_(self.config.plain)
        with self.precision.autocast():
            # Not named, so that nothing of it outlives its part of the backward.
            loss = generator_loss(
                self.critic,
                self.generator(self._noise(batch, "generator")),
                reductions=self.config.recipe.reductions,
            )
        torch.autograd.backward(self.precision.scaler.scale(loss))
        self.precision.scaler.step(self._generator_optimiser)
        self.critic.requires_grad_(True)
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs; tensors and plain values only."""
        return {
            "config": _fingerprint(self.config),
            "steps_done": self.steps_done,
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "generator_optimiser": self._generator_optimiser.state_dict(),
            "critic_optimiser": self._critic_optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``; InputError if it belongs to another configuration (more steps are fine)."""
        if state.get("config") != _fingerprint(self.config):
            raise InputError("the checkpoint belongs to a training with other settings; delete it to start again")
        self.steps_done = state["steps_done"]
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])
        self._generator_optimiser.load_state_dict(state["generator_optimiser"])
        self._critic_optimiser.load_state_dict(state["critic_optimiser"])
        self.precision.scaler.load_state_dict(state["scaler"])

    def _free_gradients(self, optimiser: torch.optim.Adam) -> None:
        """Their memory serves the other network's part; the paper's step keeps them until it writes them again."""
        if not self.config.plain:
            optimiser.zero_grad()

    def _critic_terms(self, real: Tensor, index: int) -> CriticLoss:
        config, recipe = self.config, self.config.recipe
        attached = config.plain or recipe.interpolate == "attached"
        with self.precision.autocast(), torch.set_grad_enabled(attached):
            fake = self.generator(self._noise(len(real), f"critic {index}"))
        with self.precision.autocast():
            return critic_loss(
                self.critic,
                real,
                fake,
                self._epsilon(len(real), index),
                weight=config.penalty_weight,
                penalty_norm=recipe.penalty_norm,
                reductions=recipe.reductions,
                inner_scale=self.precision.inner_scale,
            )

    def _noise(self, batch: int, role: str) -> Tensor:
        rng = generator_for(self.config.seed, self.steps_done, f"noise {role}")
        return torch.randn(batch, self.config.latent, generator=rng).to(self.device, non_blocking=True)

    def _epsilon(self, batch: int, index: int) -> Tensor:
        rng = generator_for(self.config.seed, self.steps_done, f"epsilon {index}")
        shape = () if self.config.recipe.epsilon == "batch" else (batch, 1, 1, 1, 1)
        return torch.rand(shape, generator=rng).to(self.device, non_blocking=True)

    def _adam(self, network: torch.nn.Module, lr: float) -> torch.optim.Adam:
        fused = None if self.config.plain else True
        return torch.optim.Adam(network.parameters(), lr=lr, betas=self.config.betas, fused=fused)


def train_wgan(
    config: WGANConfig,
    real_batch: Callable[[int], Tensor],
    *,
    device: torch.device | str,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 30.0,
    on_step: OnStep | None = None,
) -> Generator:
    """Train to ``config.steps``, from ``checkpoint`` if that file exists, and return the generator.

    ``real_batch(step)`` gives the pairs (B, 2, X, Y, Z) of a step and must depend on the step alone. ``on_step(step,
    values)`` gets the fields of StepLog for every step that this call makes, counted from 0; after a crash, the steps
    since the last checkpoint come again. Raises RuntimeError after 20 steps in a row without finite
    losses, InputError for a checkpoint of another configuration.
    """
    trainer = WGANTrainer(config, device)
    if checkpoint is not None and checkpoint.exists():
        trainer.load_state_dict(load_checkpoint(checkpoint, trainer.device))
    reporter = StepReporter(on_step, trainer.device)
    saved_at = time.monotonic()
    while trainer.steps_done < config.steps:
        step = trainer.steps_done
        reporter.add(step, trainer.step(real_batch(step))._asdict())
        if checkpoint is not None and time.monotonic() - saved_at >= checkpoint_every_s:
            reporter.flush()
            save_checkpoint(checkpoint, trainer.state_dict())
            saved_at = time.monotonic()
    reporter.flush()
    if checkpoint is not None:
        save_checkpoint(checkpoint, trainer.state_dict())
    return trainer.generator


def _fingerprint(config: WGANConfig) -> str:
    settings = asdict(config)
    del settings["steps"]
    return repr(sorted(settings.items()))
