"""Draws a network's weights anew, and keeps what its active dimensions have learnt.

Under a high β the first factors (x, y, scale of a sprite) settle cleanly, each in a dimension of its own, and the other
dimensions are pruned: they carry nothing, so the decoder ignores them, so they continue to carry nothing. Lowering β
alone does not bring them back (docs/experiments.md has the runs). A fresh network, whose dimensions are all alive,
finds the other factors at once. The old network becomes the teacher: for some steps after the restart, a penalty pulls
the posterior means of the new network towards the teacher's for the factors that are already settled. These targets are
the lessons.

The teacher may rotate its means first. The angle at which they settled is partly arbitrary, and the new network can
just as well learn the angle at which they are independent (training/independence.py).

A fresh network misses some factors: the hue of a small thing in front of white is worth little while its place is
unknown, and by the time the place is known the code has lost the hue. The hue stands out in the residual of the old
network, so the dimensions that carried least can learn the residual's principal components as further lessons.
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
"""Share of the largest KL above which a dimension counts as settled. With β near 1, idle dimensions also have a few
hundredths of a nat; when the teacher held them as well, all of them stayed idle (docs/experiments.md)."""
_WEIGHT = 200.0
"""Penalty for a squared distance of 1 between new and old mean at the restart, in nats."""
_TAUGHT_LOG_VARIANCE = -3.0
"""Target log-variance of the dimensions that learn components, which is σ ≈ .22. With σ ≈ .7, which results without
this target, the decoder never used a second component (docs/experiments.md)."""
_PRECISION_WEIGHT = 20.0
"""Penalty for a squared difference of 1 from the target log-variance at the restart, in nats."""
_CELLS = 8
"""Number of cells along each side of a picture."""
_LEAST_SHARE = 1e-3
"""Least spread of a component, as a share of the first component's; below it a component is rounding noise."""


class Residual:
    """Principal components of a network's residuals x - x̂, averaged over a grid of cells."""

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        self.mean, self.components = mean, components
        """Mean (P,) and components (K, P), with P = channels · cells. The scores of the fitted images have unit
        variance."""

    @classmethod
    def fit(cls, residuals: Tensor, count: int) -> "Residual":
        """Fits principal components.

        Args:
            residuals: (N, C, H, W).
            count: Number of components; fewer are fitted where the residuals have fewer.
        """
        cells = _cells(residuals)
        mean = cells.mean(0)
        _, singular, axes = torch.linalg.svd(cells - mean, full_matrices=False)
        count = min(count, len(cells) - 1, int((singular > _LEAST_SHARE * singular[0]).sum()))
        spread = singular[:count] / math.sqrt(len(cells))
        # A checkpoint returns contiguous tensors, and a product with other strides would differ in its last bits.
        return cls(mean, (axes[:count] / spread[:, None]).contiguous())

    def scores(self, residuals: Tensor) -> Tensor:
        """Returns the scores (B, K) of residuals (B, C, H, W)."""
        return (_cells(residuals) - self.mean) @ self.components.T


class Teacher:
    """The old network after a restart, with the targets that it sets for dimensions of the new network."""

    def __init__(
        self, network: VAE, dimensions: Tensor, taught: Tensor | None = None, residual: Residual | None = None
    ) -> None:
        self.network, self.dimensions = network.requires_grad_(False), dimensions
        self.rotation: Tensor | None = None
        """Rotation of the old means of `dimensions`, (K, K), or None."""
        self.residual, self.taught = residual, dimensions[:0] if taught is None else taught
        """The residual's components, and the dimensions that learn them: dimension taught[k] learns component k."""
        self._held = torch.cat([self.dimensions, self.taught])

    @property
    def num_targets(self) -> int:
        """Number K of dimensions that have a target; 0 where the old network had learnt nothing."""
        return len(self._held)

    def turn(self, images: NDArray[np.uint8], indices: NDArray[np.int64]) -> None:
        """Rotates the targets of `dimensions` to the angle at which these are independent.

        Args:
            images: All images, (N, H, W, C) uint8.
            indices: Indices of a sample of some thousands, (M,).
        """
        device = next(self.network.parameters()).device
        codes, kl = encode(self.network, images, indices, device)
        shown = self.dimensions.cpu().numpy()
        rotation = rotation_to_independence(codes[:, shown], kl[shown])
        # The rotation is contiguous, like the residual's components, since a checkpoint returns it so.
        self.rotation = torch.from_numpy(np.ascontiguousarray(rotation)).float().to(device)

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """Returns the targets of the posterior means: the old means, rotated, and the residual's scores.

        Args:
            images: (B, C, H, W) in [0, 1].

        Returns:
            (B, K), first for `dimensions` and then for `taught`.
        """
        target, _ = self.network.encode(images)
        if self.residual is not None:
            target[:, self.taught] = self.residual.scores(images - self.network.decode(target))
        if self.rotation is not None:
            target[:, self.dimensions] = target[:, self.dimensions] @ self.rotation.T
        return target[:, self._held]

    def loss(self, targets: Tensor, mean: Tensor, log_variance: Tensor, strength: float) -> Tensor:
        """Returns the penalty for the squared distance of the means from their targets.

        The dimensions in `taught` also have a target log-variance: with noise as large as the prior's, the decoder
        could not read them, and would never learn to use them.

        Args:
            targets: Targets of the images, (B, K).
            mean: Posterior means of the new network, (B, D).
            log_variance: Posterior log-variances of the new network, (B, D).
            strength: Factor on the penalty, which falls from 1 to 0 over the steps after the restart.

        Returns:
            Scalar, nats per image.
        """
        distance: Tensor = (mean[:, self._held] - targets).square().sum(1).mean()
        precision: Tensor = (log_variance[:, self.taught] - _TAUGHT_LOG_VARIANCE).square().sum(1).mean()
        return strength * (_WEIGHT * distance + _PRECISION_WEIGHT * precision)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint stores beside `dimensions`."""
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
        """Rebuilds the teacher of a checkpoint.

        Without a residual, the teacher's decoder is a copy of the new network's, and is never used.

        Args:
            tensors: The tensors of the checkpoint.
            dimensions: The dimensions that keep the old means.
            like: The new network, whose device the teacher uses.
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

    Args:
        network: The network, which is changed.
        images: Sample by which settled dimensions are recognised, (N, C, H, W) in [0, 1].
        seed: Seed of the new weights.
        num_components: Number of dimensions that learn principal components of the residual, namely those that carried
            least.

    Returns:
        The teacher, which is the old network.
    """
    old = copy.deepcopy(network)
    with torch.no_grad():
        mean, log_variance = old.encode(images)
        kl = kl_per_dimension(mean, log_variance)
        # The dimensions that carried least are reused; the new network relearns the little that they carried.
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
    fresh.decoder.output.bias = network.decoder.output.bias  # It started at the mean colour, and is no worse now.
    network.load_state_dict(fresh.state_dict())
    return teacher


def _cells(images: Tensor) -> Tensor:
    """Returns means over 8 × 8 cells, (N, C · 64), of images (N, C, H, W); finer detail only shows misplaced edges."""
    return F.adaptive_avg_pool2d(images, _CELLS).contiguous().flatten(1)
