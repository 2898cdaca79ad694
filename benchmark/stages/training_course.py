"""What is looked at now and then while a WGAN trains: pictures at fixed noise, and whether its critic overfits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vesselgan.files import atomic_path
from vesselgan.training import WGANTrainer
from vesselgan.training.randomness import generator_for

__all__ = ["OBSERVATIONS", "CourseRecorder", "evenly_spaced"]

OBSERVATIONS = 12  # spread over a training: at the paper's 100 epochs one in eight
PAIRS = 2  # of pictures at a time
SCORED = 8  # real patches of either kind


class CourseRecorder:
    """Called with the trainer, adds a moment to `course.npz` and gives the critic's scores of real patches.

    The file has, for each moment, the steps done, and projections along the last axis of a few pairs that are made of
    the same noise every time: images int8 (T, N, X, Y), -127..127 for -1..1, labels bool, vessel above the middle of
    the label's range. BatchNorm uses its running statistics here, and the trainer is left as it was.

    `score_gap` is the critic's mean score of training patches minus that of held-out ones, both real: it grows when the
    critic knows the training patches by heart.
    """

    def __init__(self, path: Path, train: Tensor, held_out: Tensor, *, seed: int, label_low: float) -> None:
        self._path, self._train, self._held_out = path, train, held_out
        self._seed, self._middle = seed, (1 + label_low) / 2

    def __call__(self, trainer: WGANTrainer) -> Mapping[str, float]:
        """The readings `score_train`, `score_held_out` and `score_gap`; none of a private training."""
        self._keep(trainer.steps_done, self._pairs(trainer))
        if trainer.config.privacy is not None:
            return {}  # what the critic thinks of training patches would tell of them, and no epsilon covers it
        scores = [_mean_score(trainer, patches) for patches in (self._train, self._held_out)]
        return {"score_train": scores[0], "score_held_out": scores[1], "score_gap": scores[0] - scores[1]}

    def _pairs(self, trainer: WGANTrainer) -> NDArray[np.float32]:
        generator = trainer.generator_for_use
        rng = generator_for(self._seed, 0, "synthesis")  # the noise of the first synthetic pairs
        noise = torch.randn(PAIRS, generator.latent, generator=rng).to(trainer.device)
        was_training = generator.training
        generator.eval()
        with torch.no_grad(), trainer.precision.autocast():
            pairs: NDArray[np.float32] = generator(noise).float().cpu().numpy()
        generator.train(was_training)
        return pairs

    def _keep(self, step: int, pairs: NDArray[np.float32]) -> None:
        moment: dict[str, NDArray[Any]] = {
            "steps": np.array([step]),
            "images": np.rint(127 * pairs[:, 0].max(axis=-1)).astype(np.int8)[None],
            "labels": np.any(pairs[:, 1] > self._middle, axis=-1)[None],
        }
        if self._path.is_file():
            with np.load(self._path) as known:
                earlier = known["steps"] < step  # what lies behind a crash comes again
                moment = {name: np.concatenate([known[name][earlier], moment[name]]) for name in moment}
        with atomic_path(self._path) as temporary:
            np.savez(temporary, allow_pickle=False, **moment)


def evenly_spaced(indices: NDArray[np.intp], count: int = SCORED) -> NDArray[np.intp]:
    """At most `count` of the indices, from all over them."""
    places: Sequence[Any] = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int).tolist()
    return indices[places]


def _mean_score(trainer: WGANTrainer, patches: Tensor) -> float:
    trainer.critic.eval()  # spectral norm takes no power iteration
    with torch.no_grad(), trainer.precision.autocast():
        score = float(trainer.critic(patches.to(trainer.device)).float().mean())
    trainer.critic.train()
    return score
