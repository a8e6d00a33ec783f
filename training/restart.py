"""Drawing a network anew without losing what its active dimensions have found.

Under a high β the first factors (x, y, scale of a sprite) settle cleanly, each in a dimension of its own, and the other
dimensions are pruned: they carry nothing, so the decoder ignores them, so they carry nothing. Lowering β alone does
not bring them back (training/NOTES.md has the runs). A fresh network, whose dimensions are all alive, finds the other
factors at once, and the old encoder shows it where to put the first ones.
"""

import copy

import torch
from torch import Tensor

from models.info import ACTIVE_KL_NATS
from models.networks import VAE, Encoder, initialise_encoder_alive
from training.objectives import kl_per_dimension

_WEIGHT = 200.0
"""Nats for a squared distance of 1 between new and old mean, at the restart."""


class Teacher:
    """The encoder from before a restart, and the dimensions that were active in it."""

    def __init__(self, encoder: Encoder, dimensions: Tensor) -> None:
        self.encoder, self.dimensions = encoder.requires_grad_(False), dimensions

    def loss(self, images: Tensor, mean: Tensor, strength: float) -> Tensor:
        """Squared distance of the means (B, D) from the old ones in the active dimensions, nats an image.

        strength falls from 1 to 0 over the steps after the restart.
        """
        with torch.no_grad():
            target, _ = self.encoder(images)
        distance: Tensor = (mean - target)[:, self.dimensions].square().sum(1).mean()
        return _WEIGHT * strength * distance


def restart(network: VAE, images: Tensor, seed: int) -> Teacher:
    """Draws all weights of `network` anew, in place.

    Args: images, a sample (N, C, H, W) in [0, 1] that tells which dimensions are active; seed, of the new weights.
    Returns: the teacher that the old encoder becomes.
    """
    with torch.no_grad():
        kl = kl_per_dimension(*network.encode(images))
    teacher = Teacher(copy.deepcopy(network.encoder), torch.nonzero(kl > ACTIVE_KL_NATS).flatten())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = VAE(network.config)
        initialise_encoder_alive(fresh.encoder)
    fresh.decoder.output.bias = network.decoder.output.bias  # It began at the mean colour; what it is now is no worse.
    network.load_state_dict(fresh.state_dict())
    return teacher
