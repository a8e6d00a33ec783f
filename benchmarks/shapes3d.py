"""Draws a set like 3D Shapes (Burgess and Kim 2018): a room with one of four solids, in the published file's layout.

    python -m benchmarks.shapes3d FILE.h5 [--images 480000]

The published set cannot always be had. This one has its six factors (hues of floor, wall and object, scale, shape and
orientation) with their values, 64 px, and its HDF5 keys, so that the service recognises it; the pictures are our own.
Each picture is ray-traced once per scale, shape and orientation, and coloured for each combination of hues.
"""

import argparse
import colorsys
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from training.data.array_labels import SHAPES3D_VALUES

Floats = NDArray[np.float64]
SIZES = tuple(map(len, SHAPES3D_VALUES.values()))
SIZE = 64
_EYE = np.array([0.0, -5.2, 2.3])
"""Position of the camera, which looks at the object's middle; the object stands on z = 0 at the origin."""
_TARGET = np.array([0.0, 0.0, 0.55])
_FIELD = math.tan(math.radians(22))
"""Half of the picture's width at distance 1 from the camera."""
_WALLS = 3.2
"""Distance of the walls from the origin."""
_LIGHT = np.array([-0.45, -0.6, 0.66])
_STEPS = 48


class Geometry(NamedTuple):
    """What the rays of a picture meet, (64, 64) each."""

    part: NDArray[np.int64]
    """0 for the floor, 1 for a wall, 2 for the object."""
    light: Floats
    """Share of the light that is seen, in [0, 1]."""


def _cube(p: Floats) -> Floats:
    q = np.abs(p) - 0.62
    outside = np.sqrt((np.maximum(q, 0) ** 2).sum(-1))
    return np.asarray(outside + np.minimum(q.max(-1), 0))


def _cylinder(p: Floats) -> Floats:
    q = np.stack([np.hypot(p[..., 0], p[..., 1]) - 0.6, np.abs(p[..., 2]) - 0.62], -1)
    outside = np.sqrt((np.maximum(q, 0) ** 2).sum(-1))
    return np.asarray(outside + np.minimum(q.max(-1), 0))


def _sphere(p: Floats) -> Floats:
    return np.asarray(np.sqrt((p**2).sum(-1)) - 0.62)


def _capsule(p: Floats) -> Floats:
    along = np.maximum(np.abs(p[..., 0]) - 0.4, 0)
    return np.asarray(np.sqrt(along**2 + p[..., 1] ** 2 + p[..., 2] ** 2) - 0.45)


SOLIDS: tuple[tuple[Callable[[Floats], Floats], float], ...] = (
    (_cube, 0.62),
    (_cylinder, 0.62),
    (_sphere, 0.62),
    (_capsule, 0.45),
)
"""Signed distance of each solid of scale 1 about its middle, and the height of that middle above the floor."""


def _turned(vectors: Floats, degrees: float) -> Floats:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.asarray(vectors @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]))


def _rays(azimuth: float) -> tuple[Floats, Floats]:
    """Returns the camera's position, (3,), and the directions of its rays, (64, 64, 3), of length 1."""
    forward = (_TARGET - _EYE) / np.linalg.norm(_TARGET - _EYE)
    right = np.array([1.0, 0.0, 0.0])
    up = np.cross(right, forward)
    across = ((np.arange(SIZE) + 0.5) / SIZE * 2 - 1) * _FIELD
    directions = forward + across[None, :, None] * right - across[:, None, None] * up
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    return _turned(_EYE, azimuth), _turned(directions, azimuth)


def trace(scale: float, shape: int, azimuth: float) -> Geometry:
    """Returns what is seen of a solid in its room.

    Args:
        scale: Size of the solid, .75 to 1.25.
        shape: 0 for a cube, 1 for a cylinder, 2 for a ball, 3 for a capsule.
        azimuth: Angle of the camera about the room, degrees.
    """
    eye, rays = _rays(azimuth)
    with np.errstate(divide="ignore"):
        to_floor = np.where(rays[..., 2] < 0, -eye[2] / rays[..., 2], np.inf)
        # A ray meets only the walls that it moves towards, since the camera looks in from outside the room.
        to_walls = (_WALLS * np.sign(rays[..., :2]) - eye[:2]) / rays[..., :2]
    to_walls = np.where(to_walls > 0, to_walls, np.inf)
    side = to_walls.argmin(-1)
    to_wall = to_walls.min(-1)
    part = np.where(to_floor < to_wall, 0, 1)
    normal = np.zeros_like(rays)
    normal[..., 2] = part == 0
    for axis in (0, 1):
        normal[..., axis] = np.where((part == 1) & (side == axis), -np.sign(rays[..., axis]), 0)

    solid, height = SOLIDS[shape]
    middle = np.array([0, 0, height * scale])

    def distance(points: Floats) -> Floats:
        return solid((points - middle) / scale) * scale

    travelled = np.full((SIZE, SIZE), 2.0)
    for _ in range(_STEPS):
        travelled += distance(eye + travelled[..., None] * rays)
    points = eye + travelled[..., None] * rays
    is_hit = distance(points) < 1e-2
    part[is_hit] = 2
    small = 1e-3 * np.eye(3)
    slope = np.stack([distance(points + step) - distance(points - step) for step in small], -1)
    slope /= np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-9)
    normal[is_hit] = slope[is_hit]
    light = 0.55 + 0.45 * np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    return Geometry(part, light)


def draw(classes: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Returns pictures by their factors.

    Args:
        classes: Class indices (N, 6) of floor, wall and object hue, scale, shape and orientation.

    Returns:
        (N, 64, 64, 3).
    """
    hues, _, _, scales, _, angles = SHAPES3D_VALUES.values()
    colours = np.array([colorsys.hsv_to_rgb(hue, 0.85, 1.0) for hue in hues])
    images = np.empty((len(classes), SIZE, SIZE, 3), np.uint8)
    geometries, inverse = np.unique(classes[:, 3:], axis=0, return_inverse=True)
    for number, (scale, shape, angle) in enumerate(geometries):
        part, light = trace(scales[scale], shape, angles[angle])
        rows = np.flatnonzero(inverse.reshape(-1) == number)
        palette = colours[classes[rows, :3]]
        images[rows] = np.rint(255 * palette[:, part] * light[..., None])
    return images


def write(path: Path, num_images: int, seed: int = 0) -> None:
    """Writes a set as HDF5 with the keys `images` and `labels`.

    Args:
        path: The file.
        num_images: Number of pictures, drawn from the grid of all 480 000 without repetition.
        seed: Seed of that draw.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(math.prod(SIZES))[:num_images])
    classes = np.stack(np.unravel_index(chosen, SIZES), axis=1)
    labels = np.stack([values[column] for column, values in zip(classes.T, SHAPES3D_VALUES.values(), strict=True)], 1)
    with h5py.File(path, "w") as file:
        images = file.create_dataset(
            "images",
            (len(classes), SIZE, SIZE, 3),
            np.uint8,
            chunks=(min(256, len(classes)), SIZE, SIZE, 3),
            compression="gzip",
        )
        file.create_dataset("labels", data=labels)
        for begin in range(0, len(classes), 8192):
            images[begin : begin + 8192] = draw(classes[begin : begin + 8192])


def main() -> None:
    """Writes the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--images", type=int, default=math.prod(SIZES))
    arguments = parser.parse_args()
    write(arguments.file, arguments.images)


if __name__ == "__main__":
    main()
