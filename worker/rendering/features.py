"""Visual features of decoded frames, as numbers; no torch.

Frames are float (N, T, H, W, C) in [0, 1]: N starts, T steps along one dimension. Every feature is (N, T).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label as connected_parts

from worker.rendering.colours import Array, oklab
from worker.rendering.regions import CELLS

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_UNIFORM_BORDER = 0.06
"""If the border deviates less than this from its median colour, the rest counts as an object on a background."""
_MIN_OBJECT = 0.003
"""Share of the picture that an object must cover, which is 12 pixels at 64×64."""
_NOISE = 0.05
OWN_COLOUR = 0.3
"""Pixels show the object's own colour where they differ from the background at least this much of what the most
different one does."""
_PLAIN, _INSIDE = 0.22, 0.5
"""Largest distance in OKLab, from the median colour of an object of one colour, of four fifths of its inner pixels:
those that differ from the background at least the second value times as much as the most different one."""
_STEADY_GROUND, _AT_BORDER, _ONE_PIECE = 0.05, 0.03, 0.85
"""Largest change of a background that stays, in OKLab; largest share of an object that may lie at the border; smallest
share of an object that must be connected."""
_TINY = np.float32(1e-8)
_NUM_HARMONICS = 4
_MIN_HARMONIC = 0.08


@dataclass(frozen=True)
class Features:
    """Signed features that a label can be made of, and where the frames change."""

    values: dict[str, Array]
    """The values of each feature, (N, T), by name. Positions and sizes are shares of the side; angles are in radians,
    unwrapped along T; light and colour are in [0, 1]."""
    heat: Array
    """The mean absolute change from the middle frame of each row, (CELLS, CELLS)."""
    has_object: bool
    """True if the frames show one object on an even background. Features of an object exist only in this case."""
    is_thing: bool
    """True if, moreover, the object is in one piece, does not reach the border, and the background keeps its colour.
    Only then do words such as "moves" and "grows" apply."""
    extent: float
    """Share of the picture that the object covers."""
    weight: Array
    """How much each pixel differs from the background, (N', T, H, W), in the rows with an object."""
    rows: NDArray[np.bool_]
    """Which rows show an object, (N,); N' of them."""
    object_colours: Array
    """Median colour of the object at both ends in OKLab, (N', 2, 3)."""
    is_plain: bool
    """True if the object has one colour at either end, apart from shades of it."""


def measure(frames: NDArray[np.floating]) -> Features:
    """Measures frames.

    Args:
        frames: (N, T, H, W, C) in [0, 1].

    Returns:
        The features; those of colour only for C = 3.
    """
    pixels = frames.astype(np.float32)
    luma = pixels[..., 0] if pixels.shape[-1] == 1 else pixels @ _LUMA
    border = _border_mask(*luma.shape[2:])
    ground = np.median(pixels[:, :, border], axis=2)
    unevenness = np.abs(pixels[:, :, border] - ground[:, :, None]).mean((2, 3))
    weight = np.clip(np.abs(pixels - ground[:, :, None, None]).max(-1) - _NOISE, 0, None)
    extent = _extent(weight)
    is_seen = extent > _MIN_OBJECT
    is_object = (unevenness.mean(1) < _UNIFORM_BORDER) & (is_seen.mean(1) > 0.5)
    has_object = bool(is_object.mean() > 0.5)
    is_thing = False

    values = _light(luma, border)
    if has_object:
        weight = weight[is_object]
        is_thing = _is_thing(weight, oklab(ground[is_object]), border)
        nearest = _nearest_seen(is_seen[is_object])
        values = {
            "ground_brightness": (ground[..., 0] if ground.shape[-1] == 1 else ground @ _LUMA)[is_object],
            "log_area": np.log(np.maximum(extent[is_object], _MIN_OBJECT)),
        }
        object_values = {"object_brightness": _mean(weight, luma[is_object]), **_geometry(weight)}
        values |= {name: np.take_along_axis(array, nearest, axis=1) for name, array in object_values.items()}
    if pixels.shape[-1] == 3:
        values |= _colour(pixels[is_object], weight) if has_object else _colour(pixels, np.ones_like(luma))
    colours, spread = (
        _object_colours(weight, pixels[is_object]) if has_object else (np.zeros((0, 2, 3), np.float32), 0.0)
    )
    return Features(
        values=values,
        heat=_heat(pixels),
        has_object=has_object,
        is_thing=is_thing,
        extent=float(extent.mean()),
        weight=weight,
        rows=is_object,
        object_colours=colours,
        is_plain=spread < _PLAIN,
    )


def _is_thing(weight: Array, ground: Array, border: NDArray[np.bool_]) -> bool:
    """Returns whether most rows show one connected object inside the picture, on a background that stays.

    Args:
        weight: How much each pixel differs from the background, (N, T, H, W).
        ground: The background's colour in OKLab, (N, T, 3).
        border: The pixels of the border, (H, W).
    """
    stays = np.linalg.norm(ground - ground[:, :1], axis=-1).max(1) < _STEADY_GROUND
    total = np.maximum(weight.sum((2, 3)), 1e-9)
    inside = (weight[..., border].sum(2) / total).mean(1) < _AT_BORDER
    whole = [np.mean([_largest_part(weight[n, t]) for t in (0, 3, -1)]) >= _ONE_PIECE for n in range(len(weight))]
    return bool((stays & inside & np.array(whole)).mean() > 0.5)


def _largest_part(weight: Array) -> float:
    """Returns the share of the weight, (H, W), that the largest connected part has; 1 for an empty picture."""
    parts, count = connected_parts(weight > _NOISE, np.ones((3, 3)))
    if not count:
        return 1.0
    sums = np.bincount(parts.ravel(), weight.ravel())[1:]
    return float(sums.max() / sums.sum())


def _object_colours(weight: Array, pixels: Array) -> tuple[Array, float]:
    """Returns the median colour of the object at both ends, (N, 2, 3) in OKLab, and how far its pixels lie from it.

    The median does not change where only the outline is blurred. An object that has faded away at an end keeps the
    colour that it had last.

    Args:
        weight: How much each pixel differs from the background, (N, T, H, W).
        pixels: The frames, (N, T, H, W, C).
    """
    nearest = _nearest_seen(_extent(weight) > _MIN_OBJECT)
    colours = np.zeros((len(weight), 2, 3), np.float32)
    spreads = []
    for row, steps in enumerate(nearest[:, [0, -1]]):
        for end, step in enumerate(steps):
            seen = weight[row, step]
            own = pixels[row, step][seen >= OWN_COLOUR * seen.max()]
            colours[row, end] = oklab(np.median(own, axis=0))
            inner = oklab(pixels[row, step][seen >= _INSIDE * seen.max()])
            spreads.append(np.percentile(np.linalg.norm(inner - np.median(inner, axis=0), axis=-1), 80))
    return colours, float(np.median(spreads))


def _nearest_seen(is_seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Returns, for each frame, the step of the nearest frame of its row that shows the object, (N, T).

    An object may fade away at an end of a row.
    """
    steps = np.arange(is_seen.shape[1])
    distance = np.abs(steps[:, None] - steps) + np.where(is_seen, 0, len(steps))[:, None]
    nearest: NDArray[np.int64] = distance.argmin(2)
    return nearest


def _mean(weight: Array, values: NDArray[Any]) -> Array:
    """Returns the weighted mean over the pixels, (N, T); 0 if all weights are 0."""
    total = weight.sum((2, 3))
    mean: Array = (weight * values).sum((2, 3)) / np.maximum(total, 1e-9)
    return mean


def _border_mask(height: int, width: int) -> NDArray[np.bool_]:
    ring = max(1, height // 16)
    mask = np.ones((height, width), dtype=bool)
    mask[ring:-ring, ring:-ring] = False
    return mask


def _extent(weight: Array) -> Array:
    """Returns the share of the picture that a weight covers, (Σw)²/Σw², which does not depend on the contrast."""
    square = (weight**2).sum((2, 3))
    total = weight.sum((2, 3)) ** 2
    share: Array = np.divide(total, square, out=np.zeros_like(total), where=square > 0) / weight[0, 0].size
    return share


def _light(luma: Array, border: NDArray[np.bool_]) -> dict[str, Array]:
    height, width = luma.shape[2:]
    centre = np.zeros_like(border)
    centre[height // 4 : -height // 4, width // 4 : -width // 4] = True
    return {
        "brightness": luma.mean((2, 3)),
        "border_brightness": luma[:, :, border].mean(2),
        "centre_brightness": luma[:, :, centre].mean(2),
    }


def _geometry(weight: Array) -> dict[str, Array]:
    """Measures centre of mass, spread and rotation of an object."""
    height, width = weight.shape[2:]
    x = (np.arange(width, dtype=np.float32) + 0.5)[None, :] / width
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None] / height
    centre_x, centre_y = _mean(weight, x), _mean(weight, y)
    dx, dy = x - centre_x[:, :, None, None], y - centre_y[:, :, None, None]
    variance_x, variance_y = _mean(weight, dx**2), _mean(weight, dy**2)
    # Variances along the object's own axes do not change when it turns.
    middle = (variance_x + variance_y) / 2
    half = np.sqrt(((variance_x - variance_y) / 2) ** 2 + _mean(weight, dx * dy) ** 2)
    return {
        "x": centre_x,
        "y": centre_y,
        "log_width": np.log(variance_x + _TINY) / 2,
        "log_height": np.log(variance_y + _TINY) / 2,
        "log_length": np.log(middle + half + _TINY) / 2,
        "log_breadth": np.log(np.maximum(middle - half, 0) + _TINY) / 2,
        "rotation": _rotation(weight, dx, dy),
    }


def _rotation(weight: Array, dx: Array, dy: Array) -> Array:
    """Returns the angle that the object has turned since the first frame, (N, T) radians, clockwise positive.

    The angle follows from A_m = Σ w r² e^{imφ} / Σ w r² about the centre of mass: turning by α multiplies A_m by
    e^{imα}. The strongest harmonic of a row is used (2 for an ellipse, 4 for a square); without one the angle is 0.
    """
    square = dx**2 + dy**2
    radius = weight * square
    turn = (dx + 1j * dy) / np.sqrt(np.maximum(square, 1e-12))  # e^{iφ}
    total = np.maximum(radius.sum((2, 3)), 1e-12)
    power, moments = radius.astype(np.complex64), []
    for _ in range(_NUM_HARMONICS):
        power *= turn
        moments.append(power.sum((2, 3)) / total)
    harmonics = np.stack(moments)
    strongest = np.abs(harmonics).min(2).argmax(0)
    rows = np.arange(weight.shape[0])
    chosen = harmonics[strongest, rows]
    steps = np.angle(chosen[:, 1:] * np.conj(chosen[:, :-1])) / (strongest + 1)[:, None]
    steps *= (np.abs(chosen).min(1) > _MIN_HARMONIC)[:, None]
    turned: Array = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(steps, axis=1)], axis=1).astype(np.float32)
    return turned


def _colour(pixels: Array, weight: Array) -> dict[str, Array]:
    """Measures mean saturation, and the hue of the mean colour in unwrapped radians: 0 red, 2π/3 green."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    u, v = red - (green + blue) / 2, np.sqrt(3) / 2 * (green - blue)
    mean_u, mean_v = _mean(weight, u), _mean(weight, v)
    return {
        "saturation": _mean(weight, np.hypot(u, v)),
        "hue": np.unwrap(np.arctan2(mean_v, mean_u), axis=1),
        "chroma": np.hypot(mean_u, mean_v),
    }


def _heat(pixels: Array) -> Array:
    middle = pixels[:, pixels.shape[1] // 2][:, None]
    change = np.abs(pixels - middle).max(-1).mean((0, 1))
    height, width = change.shape
    heat: Array = change.reshape(CELLS, height // CELLS, CELLS, width // CELLS).mean((1, 3))
    return heat
