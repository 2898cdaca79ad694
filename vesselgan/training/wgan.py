"""Training of the 3D Wasserstein GAN with gradient penalty (Subramaniam et al. 2022; Gulrajani et al. 2017)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vesselgan.errors import InputError
from vesselgan.networks import Critic, Generator, initialise, place
from vesselgan.training.averaging import WeightAverage
from vesselgan.training.loop import run_training
from vesselgan.training.losses import CriticLoss, critic_loss, generator_loss
from vesselgan.training.precision import choose_precision
from vesselgan.training.privacy import update_private_critic
from vesselgan.training.randomness import generator_for, global_random
from vesselgan.training.reporting import OnStep, gradient_norm
from vesselgan.training.wgan_config import WGANConfig

__all__ = ["Observe", "StepLog", "WGANTrainer", "train_wgan"]


class StepLog(NamedTuple):
    """One step's readings as 0-d tensors on the training's device; reading them is what waits for a GPU."""

    critic_loss: Tensor
    generator_loss: Tensor
    penalty: Tensor
    wasserstein: Tensor
    loss_scale: Tensor  # of the GradScaler; 1 but in fp16
    critic_gradient_norm: Tensor  # of the last pass, over all parameters; not finite where the scaler skipped the step
    generator_gradient_norm: Tensor


class WGANTrainer:
    """Generator, critic and their optimisers; ``step`` is one iteration of the paper's loop.

    All randomness is drawn from (seed, step, role): initial weights, noise, interpolation weights. So ``state_dict`` is
    networks, optimisers, scaler and step number, and a training that is resumed from it continues to the bit on the
    same machine and thread count.

    Raises InputError for sizes, norms, formats or devices that do not work.
    """

    def __init__(self, config: WGANConfig, device: torch.device | str) -> None:
        config.check()
        self.config = config
        self.device = torch.device(device)
        self.precision = choose_precision(config.precision, self.device)
        self.steps_done = 0
        self.random_start = 0  # the step whose random numbers are those of step 0; see load_state_dict
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
        self._average = None if config.ema is None else WeightAverage(self.generator, config.ema)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # every step has the same shapes

    @property
    def finished(self) -> bool:
        """Whether the last step is done."""
        return self.steps_done >= self.config.steps

    @property
    def random_step(self) -> int:
        """The step that random numbers and the order of the data follow."""
        return self.steps_done - self.random_start

    @property
    def generator_for_use(self) -> Generator:
        """The generator that the training gives: with averaged weights where ``config.ema`` asks for them."""
        return self.generator if self._average is None else self._average.network()

    def step(self, real: Tensor | Sequence[Tensor]) -> StepLog:
        """One iteration on real pairs (B, 2, X, Y, Z): ``critic_steps`` critic updates, then one of the generator.

        A private training may give each critic pass a batch of its own, of any size.
        """
        # The true number of a private batch is private, too, and may be none.
        batch = len(real) if self.config.privacy is None else self.config.batch
        if isinstance(real, Tensor):
            terms = self.update_critic(self._placed(real))
        else:
            terms = self._update_private([self._placed(part) for part in real])
        critic_norm = self._last_norm(self.critic, self._critic_optimiser)
        loss = self.update_generator(batch)
        generator_norm = self._last_norm(self.generator, self._generator_optimiser)
        # The scale as a tensor: get_scale() would wait for the GPU.
        loss_scale = self.precision.scaler.scale(torch.ones((), device=self.device))
        self.precision.scaler.update()
        self.steps_done += 1
        if self._average is not None:
            self._average.update(self.generator)
        return StepLog(
            critic_loss=terms.loss,
            generator_loss=loss,
            penalty=terms.penalty,
            wasserstein=terms.wasserstein,
            loss_scale=loss_scale,
            critic_gradient_norm=critic_norm,
            generator_gradient_norm=generator_norm,
        )

    def update_critic(self, real: Tensor) -> CriticLoss:
        """The critic's part of an iteration; every pass sees the same real pairs and fresh noise (as published)."""
        if self.config.privacy is not None:
            return self._update_private([real] * self.config.critic_steps)
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
            "config": self.config.fingerprint(),
            "steps_done": self.steps_done,
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "generator_optimiser": self._generator_optimiser.state_dict(),
            "critic_optimiser": self._critic_optimiser.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "average": None if self._average is None else self._average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state_dict``; InputError if it belongs to another configuration (more steps are fine).

        With ``recipe.resume_state`` "nets_only" (D13) the loss scale is forgotten, and random numbers and the order of
        the data begin again as at the seed's first step: what the paper's code does.
        """
        if state.get("config") != self.config.fingerprint():
            raise InputError("the checkpoint belongs to a training with other settings; delete it to start again")
        self.steps_done = state["steps_done"]
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])
        self._generator_optimiser.load_state_dict(state["generator_optimiser"])
        self._critic_optimiser.load_state_dict(state["critic_optimiser"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self.config.recipe.resume_state == "full":
            self.precision.scaler.load_state_dict(state["scaler"])
        else:
            self.random_start = self.steps_done

    def _placed(self, real: Tensor) -> Tensor:
        return real.to(self.device, non_blocking=True).to(memory_format=self._layout)

    def _update_private(self, reals: Sequence[Tensor]) -> CriticLoss:
        assert self.config.privacy is not None

        def draw_fake(count: int, index: int) -> Tensor:
            with torch.no_grad(), self.precision.autocast():
                fake: Tensor = self.generator(self._noise(count, f"critic {index}"))
                return fake

        return update_private_critic(
            self.critic,
            self._critic_optimiser,
            reals,
            draw_fake,
            lambda role: generator_for(self.config.seed, self.random_step, role),
            self.config.privacy,
            batch=self.config.batch,
            updates=self.config.recipe.dp_updates,
            autocast=self.precision.autocast,
        )

    def _last_norm(self, network: torch.nn.Module, optimiser: torch.optim.Adam) -> Tensor:
        """The norm of the gradients, whose memory then serves the other network's part.

        The paper's step keeps them until it writes them again.
        """
        norm = gradient_norm(network)
        if not self.config.plain:
            optimiser.zero_grad()
        return norm

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
        rng = generator_for(self.config.seed, self.random_step, f"noise {role}")
        return torch.randn(batch, self.config.latent, generator=rng).to(self.device, non_blocking=True)

    def _epsilon(self, batch: int, index: int) -> Tensor:
        rng = generator_for(self.config.seed, self.random_step, f"epsilon {index}")
        shape = () if self.config.recipe.epsilon == "batch" else (batch, 1, 1, 1, 1)
        return torch.rand(shape, generator=rng).to(self.device, non_blocking=True)

    def _adam(self, network: torch.nn.Module, lr: float) -> torch.optim.Adam:
        fused = None if self.config.plain else True
        return torch.optim.Adam(network.parameters(), lr=lr, betas=self.config.betas, fused=fused)


Observe = Callable[[WGANTrainer], Mapping[str, float]]


def train_wgan(
    config: WGANConfig,
    real_batch: Callable[[int], Tensor | Sequence[Tensor]],
    *,
    device: torch.device | str,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 30.0,
    on_step: OnStep | None = None,
    observe: Observe | None = None,
    observe_every: int = 1,
) -> Generator:
    """Train to ``config.steps``, from ``checkpoint`` if that file exists, and return the generator.

    ``real_batch(step)`` gives the pairs (B, 2, X, Y, Z) of a step and must depend on the step alone. ``on_step(step,
    values)`` gets the fields of StepLog for every step that this call makes, counted from 0; after a crash, the steps
    since the last checkpoint come again. ``observe(trainer)`` is called after the first step, after every
    ``observe_every`` and after the last; the numbers that it returns join that step's values, and it must leave the
    trainer as it is. Raises RuntimeError after ``config.max_bad_steps`` in a row without finite losses and gradients,
    InputError for a checkpoint of another configuration.
    """
    trainer = WGANTrainer(config, device)

    def step(index: int) -> Mapping[str, Tensor]:
        values = trainer.step(real_batch(trainer.random_step))._asdict()
        if observe is not None and (index == 0 or trainer.finished or trainer.steps_done % observe_every == 0):
            values |= {name: torch.tensor(value, device=trainer.device) for name, value in observe(trainer).items()}
        return values

    run_training(
        trainer,
        step,
        checkpoint=checkpoint,
        checkpoint_every_s=checkpoint_every_s,
        on_step=on_step,
        max_bad_steps=config.max_bad_steps,
    )
    return trainer.generator_for_use
