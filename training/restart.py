"""Drawing a network anew without losing what its active dimensions have found.

Under a high β the first factors (x, y, scale of a sprite) settle cleanly, each in a dimension of its own, and the other
dimensions are pruned: they carry nothing, so the decoder ignores them, so they carry nothing. Lowering β alone does
not bring them back (docs/experiments.md has the runs). A fresh network, whose dimensions are all alive, finds the other
factors at once, and the old encoder shows it where to put the first ones.

The old encoder may show them at another angle than its own, which is luck in part: the new network can as well learn
the one at which they are independent (training/independence.py).

Some factors no fresh network finds: the hue of a small thing in front of white is worth little as long as its place is
unknown, and by the time that is known the code has lost the hue. It stands out in what the old network could not
reproduce, whose principal components can therefore be taught to the dimensions that carried least.
"""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.info import ACTIVE_KL_NATS
from models.networks import VAE, initialise_encoder_alive
from training.checkpoints import below
from training.independence import rotation_to_independence
from training.objectives.losses import kl_per_dimension
from training.summary import encode

_SETTLED_SHARE = 0.05
"""Of the largest KL of a dimension. Under a β near 1 idle ones too have some hundredths of a nat, and held where they
were, all of them stayed idle (docs/experiments.md)."""
_WEIGHT = 200.0
"""Nats for a squared distance of 1 between new and old mean, at the restart."""
_TAUGHT_LOG_VARIANCE = -3.0
"""σ ≈ .22. At the σ ≈ .7 that the means alone lead to, the decoder never took up a second component
(docs/experiments.md)."""
_PRECISION_WEIGHT = 20.0
"""Nats for a squared difference of 1 in the log-variance of a taught dimension, at the restart."""
_CELLS = 8
"""Cells along each side of a picture."""
_LEAST_SHARE = 1e-3
"""Of the first component's spread: below it a component is rounding."""


class Residual:
    """Principal components of what a network leaves of its images: x - x̂, averaged over a grid of cells."""

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        self.mean, self.components = mean, components
        """(P,) and (K, P), with P = channels · cells; the scores of the images fitted have unit variance."""

    @classmethod
    def fit(cls, residuals: Tensor, count: int) -> "Residual":
        """The first `count` components of residuals (N, C, H, W), or as many as there are."""
        cells = _cells(residuals)
        mean = cells.mean(0)
        _, singular, axes = torch.linalg.svd(cells - mean, full_matrices=False)
        count = min(count, len(cells) - 1, int((singular > _LEAST_SHARE * singular[0]).sum()))
        spread = singular[:count] / math.sqrt(len(cells))
        # Contiguous as a checkpoint returns it: a product with other strides differs in its last bits.
        return cls(mean, (axes[:count] / spread[:, None]).contiguous())

    def scores(self, residuals: Tensor) -> Tensor:
        """(B, K) of residuals (B, C, H, W)."""
        return (_cells(residuals) - self.mean) @ self.components.T


class Teacher:
    """The network from before a restart, the dimensions that it shows to the new one, and what other ones learn."""

    def __init__(
        self, network: VAE, dimensions: Tensor, taught: Tensor | None = None, residual: Residual | None = None
    ) -> None:
        self.network, self.dimensions = network.requires_grad_(False), dimensions
        self.rotation: Tensor | None = None
        """Of the old means of `dimensions`, (K, K)."""
        self.residual, self.taught = residual, dimensions[:0] if taught is None else taught
        """Dimension taught[k] learns the residual's component k."""
        self._held = torch.cat([self.dimensions, self.taught])

    @property
    def num_targets(self) -> int:
        """Dimensions that the teacher looks after, K; 0 where the old network had found nothing."""
        return len(self._held)

    def turn(self, images: NDArray[np.uint8], indices: NDArray[np.int64]) -> None:
        """Turns what it shows to the angle at which the dimensions are independent.

        Args: images (N, H, W, C) uint8; indices, of a sample of some thousands.
        """
        device = next(self.network.parameters()).device
        codes, kl = encode(self.network, images, indices, device)
        shown = self.dimensions.cpu().numpy()
        rotation = rotation_to_independence(codes[:, shown], kl[shown])
        # Contiguous as a checkpoint returns it, as the residual's components.
        self.rotation = torch.from_numpy(np.ascontiguousarray(rotation)).float().to(device)

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """Where the means belong that the teacher looks after: the old ones, turned, and the residual's scores.

        Args: images (B, C, H, W) in [0, 1].   Returns: (B, K), for `dimensions` and then those that are taught.
        """
        target, _ = self.network.encode(images)
        if self.residual is not None:
            target[:, self.taught] = self.residual.scores(images - self.network.decode(target))
        if self.rotation is not None:
            target[:, self.dimensions] = target[:, self.dimensions] @ self.rotation.T
        return target[:, self._held]

    def loss(self, targets: Tensor, mean: Tensor, log_variance: Tensor, strength: float) -> Tensor:
        """Squared distance of the means from their targets.

        The taught ones also have a log-variance to keep to: under the noise of the prior the decoder would not hear
        them, and what it does not hear it never uses.

        Args: targets (B, K) of the images; mean, log_variance, each (B, D), of the new network; strength, which falls
            from 1 to 0 over the steps after the restart.
        Returns: scalar, nats an image.
        """
        distance: Tensor = (mean[:, self._held] - targets).square().sum(1).mean()
        precision: Tensor = (log_variance[:, self.taught] - _TAUGHT_LOG_VARIANCE).square().sum(1).mean()
        return strength * (_WEIGHT * distance + _PRECISION_WEIGHT * precision)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps beside `dimensions`."""
        kept = {f"teacher.{name}": tensor for name, tensor in self.network.encoder.state_dict().items()}
        if self.rotation is not None:
            kept["teacher_rotation"] = self.rotation
        if self.residual is not None:
            kept |= {f"teacher_decoder.{name}": t for name, t in self.network.decoder.state_dict().items()}
            residual = {"taught": self.taught, "mean": self.residual.mean, "components": self.residual.components}
            kept |= {f"teacher_residual.{name}": tensor for name, tensor in residual.items()}
        return kept

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], dimensions: list[int], like: VAE) -> "Teacher":
        """The teacher of a checkpoint, on the device of `like`, the network that it teaches.

        Without a residual its decoder is a copy of that network's, and is never used.
        """
        network = copy.deepcopy(like)
        device = next(network.parameters()).device
        network.encoder.load_state_dict(below("teacher.", tensors))
        held = torch.tensor(dimensions, dtype=torch.int64, device=device)
        if "teacher_residual.mean" in tensors:
            network.decoder.load_state_dict(below("teacher_decoder.", tensors))
            kept = {name: tensor.to(device) for name, tensor in below("teacher_residual.", tensors).items()}
            teacher = cls(network, held, kept["taught"], Residual(kept["mean"], kept["components"]))
        else:
            teacher = cls(network, held)
        if "teacher_rotation" in tensors:
            teacher.rotation = tensors["teacher_rotation"].to(device)
        return teacher


def restart(network: VAE, images: Tensor, seed: int, num_components: int = 0) -> Teacher:
    """Draws all weights of `network` anew, in place.

    Args: images, a sample (N, C, H, W) in [0, 1] that tells which dimensions have settled; seed, of the new weights;
        num_components, how many dimensions learn principal components of the residual: those that carried least.
    Returns: the teacher that the old network becomes.
    """
    old = copy.deepcopy(network)
    with torch.no_grad():
        mean, log_variance = old.encode(images)
        kl = kl_per_dimension(mean, log_variance)
        # The dimensions that carried least make room; what they did carry, the new network finds again.
        taught, residual = kl.argsort()[:num_components], None
        if num_components:
            residual = Residual.fit(images - old.decode(mean), len(taught))
            taught = taught[: len(residual.components)]
            residual = residual if len(taught) else None
        shown = kl > max(ACTIVE_KL_NATS, _SETTLED_SHARE * kl.max().item())
        shown[taught] = False
    teacher = Teacher(old, torch.nonzero(shown).flatten(), taught, residual)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = VAE(network.config)
        initialise_encoder_alive(fresh.encoder)
    fresh.decoder.output.bias = network.decoder.output.bias  # It began at the mean colour; what it is now is no worse.
    network.load_state_dict(fresh.state_dict())
    return teacher


def _cells(images: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C · 64): means over 8 × 8 cells; finer detail says where edges are off."""
    return F.adaptive_avg_pool2d(images, _CELLS).contiguous().flatten(1)
