"""Results of the renderer, which the encoders read: decoded frames and their numbers; no torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.info import ACTIVE_KL_NATS
from worker.rendering.parts import dimension_file, end_files
from worker.rendering.request import Pixels, TraversalRequest

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Strip:
    """The frames along one path, from start to end."""

    dimension: int | None
    """The dimension that moves; None for an interpolation."""
    values: Vector
    """The values of the dimension, or the fractions of the way of an interpolation, (T,)."""
    base: float
    """The value at the start, where the reconstruction lies."""
    frames: Pixels
    """The frames, (T, H, W, C) uint8."""


@dataclass(frozen=True)
class Rendered:
    """Everything that the files of a traversal show."""

    request: TraversalRequest
    positions: Vector
    """The positions of the frames in the request's unit (σ), (T,), which all strips share."""
    strips: list[Strip]
    original: Pixels | None
    """The image that the traversal starts from, (H, W, C) uint8; None for another start."""
    reconstruction: Pixels
    """The picture of the start, (H, W, C) uint8."""
    mean: Vector
    """The start in latent space, (D,)."""
    log_variance: Vector | None
    """The log-variance of the image's own posterior, (D,); None without an image."""
    image_kl: Vector | None
    """The KL of the image's own posterior, (D,) nats; None without an image."""
    kl: list[float] | None
    """The KL that captions show and that decides the order, (D,) nats. It belongs to the model over its data set, or
    else to the image."""
    labels: list[str]
    """The names of the dimensions in words."""
    active: list[int] | None = None
    """The dimensions that carry information and whose effect an eye can see; None leaves it to the KL."""
    unfamiliar: bool | None = False
    """True if the image is unlike those that the model knows; None if the model has no thresholds. False without an
    image."""
    unfamiliar_reason: str | None = None
    """A sentence that says why, or why nothing is known; None for a familiar image."""
    rows: list[Strip] | None = None
    """The strips of a grid along its first dimension, one for every value of the second; None without a grid."""
    row_values: Vector | None = None
    """The values of the second dimension of a grid; None without a grid."""
    target: tuple[Pixels | None, Pixels] | None = None
    """The original, None without an image, and the reconstruction at the end of an interpolation; None for a
    traversal."""

    def is_active(self, dimension: int) -> bool:
        """Returns whether a dimension is active; all are if no KL is known."""
        if self.active is not None:
            return dimension in self.active
        return self.kl is None or self.kl[dimension] > ACTIVE_KL_NATS

    def label(self, dimension: int) -> str:
        """Returns the name of a dimension in words, which is empty if it has none."""
        return self.labels[dimension] if dimension < len(self.labels) else ""

    def describe(self) -> dict[str, Any]:
        """Returns the numbers of the result (start, order, values) as JSON types."""
        return {
            "request": self.request.to_json(),
            "num_frames": len(self.positions),
            "positions": _floats(self.positions),
            "mean": _floats(self.mean),
            "log_variance": None if self.log_variance is None else _floats(self.log_variance),
            "image_kl_per_dimension": None if self.image_kl is None else _floats(self.image_kl),
            "kl_per_dimension": self.kl,
            "dimensions": [
                {
                    "index": strip.dimension,
                    "file": dimension_file(strip.dimension),
                    "end_files": list(end_files(strip.dimension)),
                    "kl": None if self.kl is None else self.kl[strip.dimension],
                    "image_kl": None if self.image_kl is None else float(self.image_kl[strip.dimension]),
                    "active": self.is_active(strip.dimension),
                    "label": self.label(strip.dimension),
                    "base_value": strip.base,
                    "values": _floats(strip.values),
                }
                for strip in self.strips
                if strip.dimension is not None
            ],
            "unfamiliar": self.unfamiliar,
            "unfamiliar_reason": self.unfamiliar_reason,
            "row_values": None if self.row_values is None else _floats(self.row_values),
        }


def column_indices(request: TraversalRequest) -> NDArray[np.int64]:
    """Returns the indices of the frames that the still sheet shows: evenly spread, with both ends."""
    num = min(request.columns, request.steps)
    return np.round(np.linspace(0, request.steps - 1, num)).astype(np.int64)


def _floats(values: Vector) -> list[float]:
    """Returns JSON numbers with no more digits than float32 needs: 0.2, not 0.20000000298023224."""
    return [float(str(value)) for value in values]
