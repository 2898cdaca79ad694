"""Generator, critic, segmentation U-Net and the MedicalNet feature extractor."""

from vesselgan.networks.critic import Critic
from vesselgan.networks.generator import Generator
from vesselgan.networks.importing import ImportedGAN, import_gan, import_medicalnet
from vesselgan.networks.initialise import initialise
from vesselgan.networks.last_block import last_block
from vesselgan.networks.placement import place
from vesselgan.networks.resnet3d import ResNet10
from vesselgan.networks.unet import UNet
from vesselgan.networks.upsampling import UpsampleConv3d, upsample_conv3d

__all__ = [
    "Critic",
    "Generator",
    "ImportedGAN",
    "ResNet10",
    "UNet",
    "UpsampleConv3d",
    "import_gan",
    "import_medicalnet",
    "initialise",
    "last_block",
    "place",
    "upsample_conv3d",
]
