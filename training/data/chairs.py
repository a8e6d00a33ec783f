"""A built-in set with colour and ground truth: chairs made of boxes, drawn by a small renderer in NumPy.

The renderer has a perspective camera, a depth buffer, flat shading by two lights, a soft shadow on a white floor, and
supersampling. Since the hue only tints, each geometry is drawn once and then coloured several times.
"""

import colorsys
import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTOR_NAMES = ("azimuth", "elevation", "leg_height", "back_height", "seat_width", "hue")
FACTOR_SIZES = (32, 4, 4, 4, 4, 8)

ELEVATIONS_DEGREES = (8.0, 20.0, 32.0, 44.0)
LEG_HEIGHTS = (0.35, 0.62, 0.89, 1.16)
BACK_HEIGHTS = (0.45, 0.78, 1.11, 1.44)
SEAT_WIDTHS = (0.70, 0.95, 1.20, 1.45)
"""Lengths are in units of the seat's depth."""

Floats = NDArray[np.float64]
Quad = list[list[float]]

_SEAT_THICKNESS = 0.13
_POST = 0.11
_WOOD = (0.42, 0.31, 0.24)
_CAMERA_DISTANCE = 8.0
_HALF_VIEW = 1.82
"""Distance from the middle of the picture to its edge, at which every chair fits with its shadow."""
_AIM_HEIGHT = 1.28
_KEY_LIGHT = np.array([-0.36, 0.90, 0.55]) / np.linalg.norm([-0.36, 0.90, 0.55])
_FILL_LIGHT = np.array([0.85, 0.15, 0.5]) / np.linalg.norm([0.85, 0.15, 0.5])
"""Directions towards the lights, in axes of the camera (right, up, towards the viewer); the chair turns under them."""
_SHADOW = 0.34
_FLOOR = np.array([[0, 0, 0, 0, 1]], np.float32)

# Corner k of a box lies at (k & 1, k >> 1 & 1, k >> 2) of its two ends. Each face lists its corners counterclockwise,
# seen from outside.
_FACES = np.array([[1, 3, 7, 5], [0, 4, 6, 2], [2, 6, 7, 3], [0, 1, 5, 4], [4, 5, 7, 6], [0, 2, 3, 1]])
_NORMALS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)


@dataclass(frozen=True)
class _Shaded:
    """A chair without its hue: image = tint · colour + rest, both in [0, 1]."""

    tint: NDArray[np.float32]
    """The share of the tint, (H, W)."""
    rest: NDArray[np.float32]
    """The colours without the tint, (H, W, 3)."""


def render(classes: NDArray[np.integer], image_size: int = 64) -> NDArray[np.uint8]:
    """Draws the chairs of the given factor classes.

    Args:
        classes: (N, 6) class indices of azimuth, elevation, leg height, back height, seat width and hue.
        image_size: Height and width, px.

    Returns:
        (N, image_size, image_size, 3) uint8.

    Raises:
        ValueError: The classes have another shape, or an index is out of range.
    """
    classes = np.asarray(classes)
    if classes.ndim != 2 or classes.shape[1] != len(FACTOR_SIZES):
        raise ValueError(f"classes: expected shape (N, {len(FACTOR_SIZES)}), got {classes.shape}")
    if (classes < 0).any() or (classes >= np.array(FACTOR_SIZES)).any():
        raise ValueError(f"classes: an index lies outside the factor sizes {FACTOR_SIZES}")
    images = np.empty((len(classes), image_size, image_size, 3), np.uint8)
    for i, (*geometry, hue) in enumerate(classes.tolist()):
        images[i] = _colour(_draw(geometry, image_size), [hue])[0]
    return images


def render_all(image_size: int = 64, *, num_workers: int = 1) -> Iterator[NDArray[np.uint8]]:
    """Yields the whole set in its canonical order (last factor fastest).

    Args:
        image_size: Height and width, px.
        num_workers: Threads.

    Yields:
        (n, H, W, 3) uint8, the chairs of one azimuth, elevation and leg height.
    """
    views = itertools.product(*map(range, FACTOR_SIZES[:3]))
    with ThreadPoolExecutor(num_workers) as pool:
        pending = deque(pool.submit(_block, view, image_size) for view in itertools.islice(views, 2 * num_workers))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(_block, view, image_size) for view in itertools.islice(views, 1))


def hue_colour(hue: int) -> tuple[float, float, float]:
    """Returns the RGB of a hue class, in [0, 1]."""
    return colorsys.hsv_to_rgb(hue / FACTOR_SIZES[5], 0.78, 0.98)


def _block(view: tuple[int, ...], image_size: int) -> NDArray[np.uint8]:
    azimuth, elevation, leg = view
    hues = range(FACTOR_SIZES[5])
    chairs = itertools.product(range(FACTOR_SIZES[3]), range(FACTOR_SIZES[4]))
    return np.concatenate(
        [_colour(_draw((azimuth, elevation, leg, back, width), image_size), hues) for back, width in chairs]
    )


def _colour(shaded: _Shaded, hues: range | list[int]) -> NDArray[np.uint8]:
    colours = np.array([hue_colour(hue) for hue in hues], np.float32)
    images = shaded.tint[None, :, :, None] * colours[:, None, None, :] + shaded.rest
    return np.round(255 * images.clip(0, 1)).astype(np.uint8)


def _boxes(leg: int, back: int, width: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Returns the boxes of a chair.

    Returns:
        (K, 2, 3), low and high corner of each box in x right, y up, z forward; and (K,), which boxes take the hue.
    """
    leg_height, back_height = LEG_HEIGHTS[leg], BACK_HEIGHTS[back]
    half, depth = SEAT_WIDTHS[width] / 2, 0.5
    seat_top = leg_height + _SEAT_THICKNESS
    top = seat_top + back_height
    inner = half - _POST
    wood, tinted = [], []
    for x in (-half, inner):
        wood.append([[x, 0, depth - _POST], [x + _POST, leg_height, depth]])
        wood.append([[x, 0, -depth], [x + _POST, top, -depth + _POST]])
        # The rail between front and back leg makes the azimuth visible from the side too.
        rail = 0.32 * leg_height
        wood.append([[x + 0.025, rail, -depth + _POST], [x + _POST - 0.025, rail + 0.06, depth - _POST]])
    tinted.append([[-half - 0.03, leg_height, -depth + _POST], [half + 0.03, seat_top, depth + 0.05]])
    tinted.append([[-inner, leg_height, -depth], [inner, seat_top, -depth + _POST]])
    tinted.append([[-inner, seat_top + 0.3 * back_height, -depth + 0.015], [inner, top, -depth + _POST + 0.02]])
    return np.array(wood + tinted), np.array([False] * len(wood) + [True] * len(tinted))


def _draw(geometry: Sequence[int], image_size: int) -> _Shaded:
    azimuth, elevation, leg, back, width = geometry
    samples = 4 if image_size <= 64 else 2
    size = image_size * samples
    boxes, tinted = _boxes(leg, back, width)
    ends = np.array([[k & 1, k >> 1 & 1, k >> 2] for k in range(8)])
    corners = np.take_along_axis(boxes[:, None], ends[None, :, None], axis=2)[:, :, 0]
    turn = 2 * np.pi * azimuth / FACTOR_SIZES[0]
    tilt = np.radians(ELEVATIONS_DEGREES[elevation])
    turned = corners @ _about_y(turn).T
    normals = _NORMALS @ _about_y(turn).T

    depth_buffer = np.zeros((size, size))
    ids = np.zeros((size, size), np.int32)
    shades = [_FLOOR]
    for box, face, quad in _faces_in_sight(_project(turned, tilt, size)):
        _fill(quad, depth_buffer, ids, len(shades))
        shades.append(_shade(normals[face], bool(tinted[box])))
    seen = _average(np.concatenate(shades), ids, samples)
    ground = seen[:, :, 4] * (1 - _SHADOW * _shadow(turned, tilt, image_size))
    return _Shaded(seen[:, :, 0], seen[:, :, 1:4] + ground[:, :, None].astype(np.float32))


def _average(table: NDArray[Any], ids: NDArray[np.int32], samples: int) -> NDArray[Any]:
    """Averages rows of a table over the samples of each pixel; slices are five times faster than mean().

    Args:
        table: (K, row) values of each face.
        ids: (samples·H, samples·W), the face at each sample.
        samples: Samples along a side of a pixel.

    Returns:
        (H, W, row).
    """
    total = sum(table[ids[i::samples, j::samples]] for i, j in itertools.product(range(samples), repeat=2))
    mean: NDArray[Any] = total / table.dtype.type(samples**2)
    return mean


def _about_y(angle: float) -> Floats:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def _project(points: Floats, tilt: float, size: int) -> Floats:
    """Projects points (…, 3), seen from `tilt` radians above the horizon, to column and row in px and 1/distance."""
    cos, sin = np.cos(tilt), np.sin(tilt)
    x, y, z = points[..., 0], points[..., 1] - _AIM_HEIGHT, points[..., 2]
    up = cos * y - sin * z
    distance = _CAMERA_DISTANCE - (sin * y + cos * z)
    scale = size / 2 * _CAMERA_DISTANCE / _HALF_VIEW
    return np.stack([size / 2 + scale * x / distance, size / 2 - scale * up / distance, 1 / distance], axis=-1)


def _shade(normal: Floats, tinted: bool) -> NDArray[np.float32]:
    """Returns tint, RGB without tint, and share of the floor of a face, (1, 5)."""
    light = 0.40 + 0.52 * max(0.0, float(normal @ _KEY_LIGHT)) + 0.22 * max(0.0, float(normal @ _FILL_LIGHT))
    light = min(light, 1.0)
    rest = (0.0, 0.0, 0.0) if tinted else tuple(light * channel for channel in _WOOD)
    return np.array([[light if tinted else 0.0, *rest, 0.0]], np.float32)


def _faces_in_sight(points: Floats) -> Iterator[tuple[int, int, Quad]]:
    """Yields box, face and corners of those faces of boxes (K, 8, 3) that are turned towards the viewer."""
    quads = points[:, _FACES]
    first, second = quads[:, :, 1] - quads[:, :, 0], quads[:, :, 2] - quads[:, :, 0]
    # Rows count downwards, so counterclockwise means a negative area here.
    area = first[..., 0] * second[..., 1] - second[..., 0] * first[..., 1]
    for box, face in np.argwhere(area < -1e-9).tolist():
        yield box, face, quads[box, face].tolist()


def _fill(quad: Quad, depth_buffer: Floats | None, ids: NDArray[np.int32], face_id: int) -> None:
    """Draws a convex quadrilateral where it is nearer than what was drawn before.

    Each edge bounds the columns of a row from one side. 1/distance is linear on the screen, so that depth needs no
    division per pixel.

    Args:
        quad: Four corners: column, row and 1/distance.
        depth_buffer: (H, W) 1/distance of what was drawn, written to; None to draw regardless of depth.
        ids: (H, W) face at each sample, written to.
        face_id: The number of the face, which is written to `ids`.
    """
    (x0, y0, w0), (x1, y1, w1), (x2, y2, w2), _ = quad
    height, width = ids.shape
    left, right = max(0, int(min(x for x, _, _ in quad))), min(width, int(max(x for x, _, _ in quad)) + 1)
    top, bottom = max(0, math.ceil(min(y for _, y, _ in quad) - 0.5)), math.ceil(max(y for _, y, _ in quad) - 0.5)
    bottom = min(height, bottom)
    if left >= right or top >= bottom:
        return
    columns, rows = np.arange(left + 0.5, right), np.arange(top + 0.5, bottom)
    low, high = np.full(len(rows), -np.inf), np.full(len(rows), np.inf)
    for (ax, ay, _), (bx, by, _) in zip(quad, quad[1:] + quad[:1], strict=True):
        if ay < by:
            np.maximum(low, ax + (rows - ay) * ((bx - ax) / (by - ay)), out=low)
        elif ay > by:
            np.minimum(high, ax + (rows - ay) * ((bx - ax) / (by - ay)), out=high)
    inside = (columns >= low[:, None]) & (columns <= high[:, None])
    window = (slice(top, bottom), slice(left, right))
    if depth_buffer is not None:
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        slope_x = ((w1 - w0) * (y2 - y0) - (w2 - w0) * (y1 - y0)) / area
        slope_y = ((w2 - w0) * (x1 - x0) - (w1 - w0) * (x2 - x0)) / area
        depth = (w0 + slope_x * (columns - x0)) + (slope_y * (rows - y0))[:, None]
        inside &= depth > depth_buffer[window]
        np.copyto(depth_buffer[window], depth, where=inside)
    np.copyto(ids[window], face_id, where=inside)


def _shadow(turned: Floats, tilt: float, image_size: int) -> Floats:
    """Returns how dark the floor is at each pixel, (H, W) in [0, 1], from the boxes projected along the key light."""
    size = 2 * image_size
    fallen = turned.copy()
    fallen[..., [0, 2]] -= turned[..., 1:2] * (_KEY_LIGHT[[0, 2]] / _KEY_LIGHT[1])
    fallen[..., 1] = 0
    mask = np.zeros((size, size), np.int32)
    for _, _, quad in _faces_in_sight(_project(fallen, tilt, size)):
        _fill(quad, None, mask, 1)
    shadow: Floats = _average(np.array([0.0, 1.0]), mask, 2)
    for _ in range(max(1, image_size // 32)):
        padded = np.pad(shadow, 1)
        shadow = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        shadow = (shadow[:, :-2] + 2 * shadow[:, 1:-1] + shadow[:, 2:]) / 4
    return shadow
