"""Training of the WGANs and of the U-Net: losses, number formats, checkpoints, loops."""

from vesselgan.settings import PrecisionName, Privacy, WGANConfig
from vesselgan.training.adversarial import LOSSES, AdversarialLoss, Terms
from vesselgan.training.checkpoint import checkpoints_of, load_checkpoint, save_checkpoint
from vesselgan.training.guard import Outcome
from vesselgan.training.losses import critic_loss, generator_loss, gradient_penalty, soft_dice_loss
from vesselgan.training.precision import Precision, choose_precision
from vesselgan.training.privacy import epsilon_spent
from vesselgan.training.segmentation import UNetConfig, UNetTrainer, Validation, train_unet
from vesselgan.training.wgan import WGANTrainer
from vesselgan.training.wgan_loop import train_wgan

__all__ = [
    "LOSSES",
    "AdversarialLoss",
    "Outcome",
    "Precision",
    "PrecisionName",
    "Privacy",
    "Terms",
    "UNetConfig",
    "UNetTrainer",
    "Validation",
    "WGANConfig",
    "WGANTrainer",
    "checkpoints_of",
    "choose_precision",
    "critic_loss",
    "epsilon_spent",
    "generator_loss",
    "gradient_penalty",
    "load_checkpoint",
    "save_checkpoint",
    "soft_dice_loss",
    "train_unet",
    "train_wgan",
]
