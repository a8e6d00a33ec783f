"""What the renderer hands to the encoders: decoded frames and the numbers that belong to them; no torch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.info import ACTIVE_KL_NATS
from worker.rendering.request import Pixels, TraversalRequest, dimension_file

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Strip:
    """The frames along one path, start to end.

    dimension: the index that moves, None for an interpolation. values: (T,) of that dimension, or the fraction of the
    way. base: the value that the start has (its reconstruction lies there). frames: uint8 (T, H, W, C).
    """

    dimension: int | None
    values: Vector
    base: float
    frames: Pixels


@dataclass(frozen=True)
class Rendered:
    """Everything that a traversal's files show.

    positions: (T,) in the request's unit (σ), common to all strips. mean: (D,) the start. log_variance and image_kl:
    (D,) of the image's own posterior, None without an image. kl: (D,) nats that captions show and the order follows
    (the model's over its data set, else the image's). rows: for a grid, one strip along the first dimension for every
    value of the second, in row_values. target: original and reconstruction at the end of an interpolation.
    """

    request: TraversalRequest
    positions: Vector
    strips: list[Strip]
    original: Pixels | None
    reconstruction: Pixels
    mean: Vector
    log_variance: Vector | None
    image_kl: Vector | None
    kl: list[float] | None
    labels: list[str]
    rows: list[Strip] | None = None
    row_values: Vector | None = None
    target: tuple[Pixels, Pixels] | None = None

    def is_active(self, dimension: int) -> bool:
        """Whether the dimension carries information; all count as active where no KL is known."""
        return self.kl is None or self.kl[dimension] > ACTIVE_KL_NATS

    def label(self, dimension: int) -> str:
        """The dimension's name in words; empty where it has none."""
        return self.labels[dimension] if dimension < len(self.labels) else ""

    def describe(self) -> dict[str, Any]:
        """The numbers of the result: start, order, values; JSON types only."""
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
            "row_values": None if self.row_values is None else _floats(self.row_values),
        }


def column_indices(request: TraversalRequest) -> NDArray[np.int64]:
    """Frames that the static sheet shows: evenly spread, both ends among them."""
    num = min(request.columns, request.steps)
    return np.round(np.linspace(0, request.steps - 1, num)).astype(np.int64)


def _floats(values: Vector) -> list[float]:
    """JSON numbers, as short as float32 needs them: 0.2, not 0.20000000298023224."""
    return [float(str(value)) for value in values]
