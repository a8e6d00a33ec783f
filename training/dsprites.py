"""dSprites-compatible images, rendered by our own formulas.

The original set (Matthey et al. 2017) was drawn by a game engine; these formulas reproduce its 737 280
64×64 pictures up to about one pixel in eleven thousand, so the set is *compatible*, never identical.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

FACTOR_NAMES = ("shape", "scale", "orientation", "x", "y")
FACTOR_SIZES = (3, 6, 40, 32, 32)
SHAPE_NAMES = ("square", "ellipse", "heart")
NUM_IMAGES = 3 * 6 * 40 * 32 * 32

_HEART_POINTS = 240


def _axis_offsets(image_size: int) -> NDArray[np.float64]:
    """Distance of every pixel centre from each of the 32 sprite positions, (32, image_size), in 64 px units."""
    centres = (np.arange(image_size) + 0.5) * (64 / image_size)
    positions = 16 + 32 * np.arange(32) / 31
    offsets: NDArray[np.float64] = centres[None, :] - positions[:, None]
    return offsets


def _heart_polygon() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    t = np.linspace(0, 2 * np.pi, _HEART_POINTS, endpoint=False)
    x = 9.6 * np.sin(t) ** 3
    y = -0.66 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 1.45
    return x, y


def _inside_heart(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Even-odd rule for points (u, v), any shape; only points inside the bounding box are walked."""
    px, py = _heart_polygon()
    inside = np.zeros(u.shape, bool)
    near = (np.abs(u) < 9.7) & (v > py.min() - 0.1) & (v < py.max() + 0.1)
    pu, pv = u[near], v[near]
    crossings = np.zeros(pu.shape, bool)
    for x0, y0, x1, y1 in zip(px, py, np.roll(px, -1), np.roll(py, -1), strict=True):
        spans = (y0 > pv) != (y1 > pv)
        if not spans.any():
            continue
        at = x0 + (pv[spans] - y0) * (x1 - x0) / (y1 - y0)
        crossings[spans] ^= pu[spans] < at
    inside[near] = crossings
    return inside


def _render_pixels(
    shape: int, scale: int, orientation: int, dx: NDArray[np.float64], dy: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether each point at (dx, dy) from the sprite's centre is covered; dx and dy broadcast."""
    theta = 2 * np.pi * orientation / 39
    size = 0.5 + 0.1 * scale
    cos, sin = np.cos(theta), np.sin(theta)
    u = (cos * dx - sin * dy) / size
    v = (sin * dx + cos * dy) / size
    if shape == 0:
        return (np.abs(u) < 9.6) & (np.abs(v) < 9.6)
    if shape == 1:
        inside: NDArray[np.bool_] = (u / 12.75) ** 2 + (v / 7.2) ** 2 < 1
        return inside
    return _inside_heart(u, v)


def render(classes: NDArray[np.integer], image_size: int = 64) -> NDArray[np.uint8]:
    """Draws the images of the given factor classes.

    Args: classes, (N, 5) integers: shape, scale, orientation, x, y class indices.
    Returns: (N, image_size, image_size) uint8, 0 or 255.   Raises: ValueError for an index out of range.
    """
    classes = np.asarray(classes)
    if classes.ndim != 2 or classes.shape[1] != 5:
        raise ValueError(f"classes: expected shape (N, 5), got {classes.shape}")
    if (classes < 0).any() or (classes >= np.array(FACTOR_SIZES)).any():
        raise ValueError(f"classes: an index lies outside the factor sizes {FACTOR_SIZES}")
    offsets = _axis_offsets(image_size)
    images = np.zeros((len(classes), image_size, image_size), np.uint8)
    for i, (shape, scale, orientation, x, y) in enumerate(classes.tolist()):
        inside = _render_pixels(shape, scale, orientation, offsets[x][None, :], offsets[y][:, None])
        images[i] = inside * np.uint8(255)
    return images


def render_all(image_size: int = 64) -> Iterator[NDArray[np.uint8]]:
    """Yields the whole set in its canonical order (last factor fastest), one (1024, H, W) block per sprite pose.

    A pose has the same outline wherever it stands, so each row of blocks shares its rotated grid.
    """
    offsets = _axis_offsets(image_size)
    # Only the pixels that a sprite can touch are evaluated: its reach is 21 px at the largest scale.
    dx = np.broadcast_to(offsets[:, None, None, :], (32, 1, 1, image_size))
    dy = np.broadcast_to(offsets[None, :, :, None], (1, 32, image_size, 1))
    near = (np.abs(dx) < 21) & (np.abs(dy) < 21)
    flat_dx = np.broadcast_to(dx, near.shape)[near]
    flat_dy = np.broadcast_to(dy, near.shape)[near]
    for shape in range(3):
        for scale in range(6):
            for orientation in range(40):
                block = np.zeros(near.shape, np.uint8)
                block[near] = _render_pixels(shape, scale, orientation, flat_dx, flat_dy) * np.uint8(255)
                yield block.reshape(1024, image_size, image_size)


def factor_classes() -> NDArray[np.uint8]:
    """The factor classes of the whole set in its canonical order: (737 280, 5) uint8."""
    grid = np.indices(FACTOR_SIZES, dtype=np.uint8)
    return np.ascontiguousarray(grid.reshape(len(FACTOR_SIZES), -1).T)
