"""dSprites: images compatible with it, rendered by our own formulas, and recognition of the published set.

The original set (Matthey et al. 2017) was drawn by a game engine. These formulas reproduce its 737 280 images of 64×64
pixels up to about one pixel in eleven thousand, so the set is *compatible*, never identical.
"""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTOR_NAMES = ("shape", "scale", "orientation", "x", "y")
FACTOR_SIZES = (3, 6, 40, 32, 32)
LABELS_KEY = "latents_classes"
"""Name of the labels in the published file."""

_HEART_POINTS = 240
_POSITIONS = 16 + 32 * np.arange(32) / 31
_REACH = 13.7
"""Radius that holds every sprite at scale 1, in 64 px units (the corner of the square lies at 13.58)."""
_MAX_SPRITE_ERROR = 0.002
"""Share of pixels that may differ from our rendering. In the published images, 1 pixel in 11 000 differs; in a resized
copy, far more do."""


def _centres(image_size: int) -> NDArray[np.float64]:
    """Returns the pixel centres along an axis, (image_size,), in 64 px units."""
    centres: NDArray[np.float64] = np.arange(0.5, image_size, dtype=np.float64) * (64 / image_size)
    return centres


def _axis_offsets(image_size: int) -> NDArray[np.float64]:
    """Returns the distance of each pixel centre from each sprite position, (32, image_size), in 64 px units."""
    offsets: NDArray[np.float64] = _centres(image_size)[None, :] - _POSITIONS[:, None]
    return offsets


def _heart_outline() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the heart as two functions of |u|: u in ascending order, and v of the upper and of the lower edge.

    Each half of the 240-point polygon is monotone in u, so the even-odd rule becomes a comparison with two piecewise
    linear functions.
    """
    t = np.linspace(0, np.pi / 2, _HEART_POINTS // 4 + 1)
    upper, lower = _heart_y(t), _heart_y(np.pi - t)
    return 9.6 * np.sin(t) ** 3, upper, lower


def _heart_y(t: NDArray[np.float64]) -> NDArray[np.float64]:
    y: NDArray[np.float64] = -0.66 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 1.45
    return y


def _inside_heart(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    width, upper, lower = _heart_outline()
    u = np.abs(u)
    inside: NDArray[np.bool_] = (v > np.interp(u, width, upper, right=np.inf)) & (v < np.interp(u, width, lower))
    return inside


def _render_pixels(
    shape: int, scale: int, orientation: int, dx: NDArray[np.float64], dy: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Returns whether a sprite covers the points at (dx, dy) from its centre; dx and dy broadcast."""
    theta = 2 * np.pi * orientation / 39
    size = 0.5 + 0.1 * scale
    cos, sin = np.cos(theta), np.sin(theta)
    u = (cos * dx - sin * dy) / size
    v = (sin * dx + cos * dy) / size
    if shape == 0:
        square: NDArray[np.bool_] = (np.abs(u) < 9.6) & (np.abs(v) < 9.6)
        return square
    if shape == 1:
        ellipse: NDArray[np.bool_] = (u / 12.75) ** 2 + (v / 7.2) ** 2 < 1
        return ellipse
    return _inside_heart(u, v)


def are_classes(classes: NDArray[np.integer]) -> bool:
    """Returns True if labels (N, F) can be class indices of dSprites."""
    return classes.shape[1] == len(FACTOR_SIZES) and not (classes.max(axis=0) >= FACTOR_SIZES).any()


def are_sprites(images: NDArray[Any], classes: NDArray[np.integer], *, labels_key: str) -> bool:
    """Returns True if images are those of dSprites.

    They must be binary, and either the key of the labels must be dSprites' own, or the pixels must match our rendering
    of the classes.

    Args:
        images: (N, 64, 64) of any number type; 0 is black and the largest value is white.
        classes: (N, 5) class indices for which `are_classes` is true.
        labels_key: Name of the labels in their file.
    """
    ink = images == images.max()
    if not (ink | (images == 0)).all():
        return False
    return labels_key == LABELS_KEY or bool((ink != (render(classes) > 0)).mean() < _MAX_SPRITE_ERROR)


def render(classes: NDArray[np.integer], image_size: int = 64) -> NDArray[np.uint8]:
    """Draws the images of the given factor classes.

    Args:
        classes: (N, 5) class indices of shape, scale, orientation, x and y.
        image_size: Height and width, px.

    Returns:
        (N, image_size, image_size) uint8, 0 or 255.

    Raises:
        ValueError: The classes have another shape, or an index is out of range.
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


def render_all(image_size: int = 64, *, num_workers: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yields the whole set in its canonical order (last factor fastest), one (1024, H, W) uint8 block per pose.

    Args:
        image_size: Height and width, px.
        num_workers: Threads; NumPy releases the interpreter for most of the time.
    """
    poses = itertools.product(*map(range, FACTOR_SIZES[:3]))
    with ThreadPoolExecutor(num_workers) as pool:
        pending = deque(
            pool.submit(_render_pose, pose, image_size) for pose in itertools.islice(poses, 2 * num_workers)
        )
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(_render_pose, pose, image_size) for pose in itertools.islice(poses, 1))


def _render_pose(pose: tuple[int, ...], image_size: int) -> NDArray[np.uint8]:
    """Draws one pose at all 32×32 positions, (1024, H, W), y fastest.

    Only the window of pixels that the sprite can reach is computed.
    """
    shape, scale, orientation = pose
    reach = _REACH * (0.5 + 0.1 * scale) * image_size / 64
    window = min(image_size, 2 * math.ceil(reach) + 1)
    start = np.floor(_POSITIONS * image_size / 64 - reach).astype(int).clip(0, image_size - window)
    offsets = _centres(image_size)[start[:, None] + np.arange(window)] - _POSITIONS[:, None]
    # Axes: x, y, row, column.
    inside = _render_pixels(shape, scale, orientation, offsets[:, None, None, :], offsets[None, :, :, None])
    pixels = inside * np.uint8(255)
    block = np.zeros((32, 32, image_size, image_size), np.uint8)
    for x, left in enumerate(start):
        for y, top in enumerate(start):
            block[x, y, top : top + window, left : left + window] = pixels[x, y]
    return block.reshape(1024, image_size, image_size)
