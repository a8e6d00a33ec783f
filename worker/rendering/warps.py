"""Checks whether a movement explains how an object changes: the moved picture is compared with the next; no torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from worker.rendering.colours import Array

EXPLAINED = 0.4
"""Share of a change that a movement must explain, so that a label may name it."""
_STRIDE = 2


def explained_shares(weight: Array, values: dict[str, Array]) -> dict[str, float]:
    """Returns which share of the change between frames a movement explains, by kind: motion, size and turning.

    Motion is compared with leaving the object where it is. Size, turning and mirroring are compared with motion alone.
    The share is 1 − Σ(moved − next)² / Σ(reference − next)² over the pixels of all rows and of every second frame, and
    of both ends for mirroring.

    Args:
        weight: How much each pixel differs from the background, (N, T, H, W).
        values: The features of the object: x, y, log_width, log_height and rotation, each (N, T).
    """
    errors = dict.fromkeys(("still", "motion", "uniform", "size", "turning", "mirrored", "carried"), 0.0)
    num_rows, num_steps = weight.shape[:2]
    for row in range(num_rows):
        places = [{name: float(array[row, t]) for name, array in values.items()} for t in range(num_steps)]
        for begin in range(0, num_steps - _STRIDE, _STRIDE):
            end = begin + _STRIDE
            first, last, before, after = weight[row, begin], weight[row, end], places[begin], places[end]
            wide, tall = (after[name] - before[name] for name in ("log_width", "log_height"))
            ways = {
                "motion": np.eye(2),
                "uniform": np.eye(2) * np.exp((after["log_area"] - before["log_area"]) / 2),
                "size": np.diag(np.exp([tall, wide])),
                "turning": _turn(after["rotation"] - before["rotation"]),
            }
            errors["still"] += float(np.square(first - last).sum())
            for name, way in ways.items():
                errors[name] += float(np.square(_moved(first, before, after, way) - last).sum())
        for name, way in (("carried", np.eye(2)), ("mirrored", np.diag([1.0, -1.0]))):
            errors[name] += float(np.square(_moved(weight[row, 0], places[0], places[-1], way) - weight[row, -1]).sum())
    return {
        "motion": _share(errors["motion"], errors["still"]),
        "size": _share(min(errors["size"], errors["uniform"]), errors["motion"]),
        "turning": _share(errors["turning"], errors["motion"]),
        "mirroring": _share(errors["mirrored"], errors["carried"]),
    }


def _share(error: float, reference: float) -> float:
    return 1 - error / reference if reference > 0 else 0.0


def _turn(angle: float) -> NDArray[np.float64]:
    """Returns the matrix that turns (row, column) clockwise."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _moved(picture: Array, before: dict[str, float], after: dict[str, float], way: NDArray[Any]) -> Array:
    """Returns a picture (H, W) whose object is scaled or turned about its centre and carried to its next place."""
    size = np.array(picture.shape)
    old, new = (np.array([place["y"], place["x"]]) * size - 0.5 for place in (before, after))
    back = np.linalg.inv(way)
    moved: Array = affine_transform(picture, back, old - back @ new, order=1)
    return moved
