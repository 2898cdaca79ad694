"""Training of the 3D Wasserstein GAN with gradient penalty (Subramaniam et al. 2022; Gulrajani et al. 2017)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vesselgan.errors import InputError
from vesselgan.networks import Critic, Generator, initialise, place
from vesselgan.settings import WGANConfig
from vesselgan.training.adversarial import Terms, make_loss
from vesselgan.training.averaging import WeightAverage
from vesselgan.training.guard import GuardedOptimiser, KeptBuffers, Outcome, Update, loss_scale, update_scale
from vesselgan.training.precision import choose_precision
from vesselgan.training.privacy import update_private_critic
from vesselgan.training.randomness import generator_for, global_random

__all__ = ["WGANTrainer"]


class WGANTrainer:
    """Generator, critic and their optimisers; ``step`` is one iteration of the paper's loop.

    All randomness is drawn from (seed, step, role): initial weights, noise, interpolation weights. So ``state_dict`` is
    networks, optimisers, scaler and step number, and a training that is resumed from it continues to the bit on the
    same machine and thread count. What is garbage changes none of it: see ``vesselgan.training.guard``. ``dtype`` is
    that of the weights.

    Raises InputError for sizes, norms, formats or devices that do not work.
    """

    def __init__(self, config: WGANConfig, device: torch.device | str, *, dtype: torch.dtype = torch.float32) -> None:
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
            float32_score = config.recipe.reductions == "float32" and dtype == torch.float32
            self.critic = Critic(
                config.patch_size,
                config.filters,
                norm=config.norm,
                float32_score=float32_score,
                folded=not config.plain,
            )
            initialise(self.generator, config.recipe)
            initialise(self.critic, config.recipe)
        self._dtype = dtype
        for network in (self.generator, self.critic):
            place(network, self.device, self._layout, dtype)
        # What is called where a network's gradients are wanted; see data_parallel.
        self._learning_generator: nn.Module = self.generator
        self._learning_critic: nn.Module = self.critic
        self._generator_optimiser = self._adam(self.generator, config.lr_generator)
        self._critic_optimiser = self._adam(self.critic, config.lr_critic)
        # The critic's forward moves its spectral norms, and the generator's, which it needs, running statistics.
        buffers, scaler = KeptBuffers(self.generator, self.critic), self.precision.scaler
        self._loss = make_loss(config, self.precision.inner_scale)
        # Of a private training, only the noisy gradient is looked at.
        read = 0 if config.privacy is not None else 1 + len(self._loss.critic_readings)
        self._guarded_critic = GuardedOptimiser(self.critic, self._critic_optimiser, scaler, buffers, losses=read)
        read = 1 + len(self._loss.generator_readings)
        self._guarded_generator = GuardedOptimiser(
            self.generator, self._generator_optimiser, scaler, buffers, losses=read
        )
        self._average = None if config.ema is None else WeightAverage(self.generator, config.ema)
        if self.device.type == "cuda":
            # Every step has the same shapes. Which kernel is fastest is not the same every time.
            torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()

    @property
    def networks(self) -> tuple[Generator, Critic]:
        """What is trained."""
        return self.generator, self.critic

    def begin(self) -> None:
        """Make what the first step would leave in the optimisers, and nothing else: for counting a step."""
        for optimiser in (self._critic_optimiser, self._generator_optimiser):
            for group in optimiser.param_groups:
                for weight in group["params"]:
                    weight.grad = torch.zeros_like(weight)
            optimiser.step()
            optimiser.zero_grad()

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

    def step(self, real: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
        """One iteration on real pairs (B, 2, X, Y, Z): ``critic_steps`` critic updates, then one of the generator.

        A private training may give each critic pass a batch of its own, of any size. Gives the step's readings as 0-d
        tensors on the device, reading which is what waits for a GPU: both losses, what the loss reads, ``loss_scale``
        (of the GradScaler; 1 but in fp16), the gradient norms (the critic's of the last pass; not finite where the
        scaler skipped the step), and ``outcome``, what became of the step.
        """
        # The true number of a private batch is private, too, and may be none.
        batch = len(real) if self.config.privacy is None else self.config.batch
        if isinstance(real, Tensor):
            terms, critic = self.update_critic(self._placed(real))
        else:
            terms, critic = self._update_private([self._placed(part) for part in real])
        self._free_gradients(self._critic_optimiser)
        # A generator learns nothing from a critic that saw garbage; from one whose loss scale is sought it does.
        held = torch.where(critic.outcome > Outcome.LOSS_SCALE, critic.outcome, Outcome.APPLIED)
        learned, generator = self.update_generator(batch, held, real if isinstance(real, Tensor) else real[0])
        self._free_gradients(self._generator_optimiser)
        outcome = torch.maximum(critic.outcome, generator.outcome)
        scale = loss_scale(self.precision.scaler, self.device)
        update_scale(self.precision.scaler, outcome, self.device)
        self.steps_done += 1
        if self._average is not None:
            self._average.update(self.generator, held=generator.outcome > Outcome.LOSS_SCALE)
        readings = {**terms.readings, **learned.readings}
        return {
            "critic_loss": terms.loss,
            "generator_loss": learned.loss,
            **{name: readings[name] for name in sorted(readings)},
            "loss_scale": scale,
            "critic_gradient_norm": critic.gradient_norm,
            "generator_gradient_norm": generator.gradient_norm,
            "outcome": outcome,
        }

    def share(self, batch: Tensor) -> Tensor:
        """The part of something (B, ...) of the whole batch that this trainer takes: here, all of it."""
        return batch

    def update_critic(self, real: Tensor) -> tuple[Terms, Update]:
        """The critic's part of an iteration; every pass sees the same real pairs and fresh noise (as published)."""
        if self.config.privacy is not None:
            return self._update_private([real] * self.config.critic_steps)
        scaler, last = self.precision.scaler, self.config.critic_steps - 1
        inside = self.config.recipe.critic_update == "inside_loop"
        outcome = torch.zeros((), dtype=torch.int64, device=self.device)
        for index in range(self.config.critic_steps):
            if index == 0 or inside:
                self._guarded_critic.begin()
            else:
                self._critic_optimiser.zero_grad()
            terms = self._critic_terms(real, index)
            torch.autograd.backward(scaler.scale(terms.loss))
            if index == last or inside:
                update = self._guarded_critic.step(terms.loss, *terms.readings.values())
                outcome = torch.maximum(outcome, update.outcome)
                if index != last:
                    # A scaler takes one step per optimiser between updates.
                    update_scale(scaler, update.outcome, self.device)
        return _detached(terms), Update(update.gradient_norm, outcome)

    def update_generator(
        self, batch: int, held: Tensor | None = None, real: Tensor | None = None
    ) -> tuple[Terms, Update]:
        """The generator's part of an iteration, with its loss; ``held`` is an Outcome that may forbid to apply it.

        ``real`` are the pairs that the critic saw, for a loss that asks for them.
        """

        def placed() -> Tensor:
            assert real is not None  # a step gives them
            return self._placed(real)

        self._guarded_generator.begin()
        # Only the plain step computes the critic's gradients here, which nothing uses.
        self.critic.requires_grad_(self.config.plain)
        with self.precision.autocast():
            # The fake pairs are not named, so that nothing of them outlives its part of the backward.
            terms = self._loss.generator(self.critic, self._learning_generator(self._noise(batch, "generator")), placed)
        torch.autograd.backward(self.precision.scaler.scale(terms.loss))
        update = self._guarded_generator.step(terms.loss, *terms.readings.values(), held=held)
        self.critic.requires_grad_(True)
        return _detached(terms), update

    def in_a_wider_format(self, step: int) -> "WGANTrainer":
        """A copy to make this step with: the present weights, its random numbers, arithmetic of ``diagnosis.WIDER``."""
        dtype = torch.float64 if self.config.precision == "fp32" else torch.float32
        twin = WGANTrainer(replace(self.config, precision="fp32", ema=None), self.device, dtype=dtype)
        twin.load_state_dict(self.state_dict() | {"config": twin.config.fingerprint()})
        twin.steps_done, twin.random_start = step, self.random_start
        return twin

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
            "critic_guard": self._guarded_critic.guard.state_dict(),
            "generator_guard": self._guarded_generator.guard.state_dict(),
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
        self._guarded_critic.guard.load_state_dict(state.get("critic_guard"))
        self._guarded_generator.guard.load_state_dict(state.get("generator_guard"))
        if self.config.recipe.resume_state == "full":
            self.precision.scaler.load_state_dict(state["scaler"])
        else:
            self.random_start = self.steps_done

    def _placed(self, real: Tensor) -> Tensor:
        return real.to(self.device, self._dtype, non_blocking=True).to(memory_format=self._layout)

    def _update_private(self, reals: Sequence[Tensor]) -> tuple[Terms, Update]:
        assert self.config.privacy is not None
        updates: list[Update] = []

        def draw_fake(count: int, index: int) -> Tensor:
            with torch.no_grad(), self.precision.autocast():
                fake: Tensor = self.generator(self._noise(count, f"critic {index}"))
                return fake

        def apply() -> Tensor:
            updates.append(self._guarded_critic.step())
            return updates[-1].outcome == Outcome.APPLIED

        self._guarded_critic.begin()
        terms = update_private_critic(
            self.critic,
            apply,
            reals,
            draw_fake,
            lambda role: generator_for(self.config.seed, self.random_step, role),
            self.config,
            self.precision.autocast,
        )
        outcome = torch.stack([update.outcome for update in updates]).amax()
        readings = {"wasserstein": terms.wasserstein, "penalty": terms.penalty}
        return Terms(terms.loss, readings), Update(updates[-1].gradient_norm, outcome)

    def _free_gradients(self, optimiser: torch.optim.Adam) -> None:
        """Their memory then serves the other network's part. The paper's step keeps them until it writes them again."""
        if not self.config.plain:
            optimiser.zero_grad()

    def _critic_terms(self, real: Tensor, index: int) -> Terms:
        attached = self.config.plain or self.config.recipe.interpolate == "attached"
        with self.precision.autocast(), torch.set_grad_enabled(attached):
            fake = self.generator(self._noise(len(real), f"critic {index}"))
        with self.precision.autocast():
            return self._loss.critic(self._learning_critic, real, fake, partial(self._uniform, index))

    def _noise(self, batch: int, role: str) -> Tensor:
        rng = generator_for(self.config.seed, self.random_step, f"noise {role}")
        return torch.randn(batch, self.config.latent, generator=rng).to(self.device, self._dtype, non_blocking=True)

    def _uniform(self, index: int, role: str, shape: Sequence[int]) -> Tensor:
        rng = generator_for(self.config.seed, self.random_step, f"{role} {index}")
        return torch.rand(tuple(shape), generator=rng).to(self.device, self._dtype, non_blocking=True)

    def _adam(self, network: torch.nn.Module, lr: float) -> torch.optim.Adam:
        fused = None if self.config.plain else True
        return torch.optim.Adam(network.parameters(), lr=lr, betas=self.config.betas, fused=fused)


def _detached(terms: Terms) -> Terms:
    """Without graphs, which hold patches that the other part of a step has better use for the memory of."""
    return Terms(terms.loss.detach(), {name: reading.detach() for name, reading in terms.readings.items()})
