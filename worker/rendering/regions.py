"""Regions of a picture that change together along one latent dimension, and their colours in words; no torch."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from worker.rendering.colours import Array, colour_name

Mask = NDArray[np.bool_]

CELLS = 8
"""Number of cells along a side of the grids that places are named on."""
_JUST_VISIBLE = 0.04
"""Distance in OKLab that is just noticeable between mean colours of regions in two pictures side by side."""
_MIN_CHANGE = 0.015
"""Changes of a pixel below this, averaged over the starts, belong to no region."""
_SHARE_OF_PEAK = 0.3
"""A pixel belongs to a region if it changes at least this much of what the most changing one does."""
_ONE_COLOUR, _SAME_CHANGE = 0.06, 0.45
"""Largest distance between the colours, at both ends, of two pixels of a region: in OKLab, and in the change of one."""
_COHERENT = 0.5
"""Smallest ratio of the change of a region's mean colour to the mean change of its pixels, for words of colour."""
_MIN_SHARE = 0.15
"""Smallest share of all change that a region has; if none has it, the largest one is taken."""
_NEAR, _AGREEING = 0.1, 0.6
"""Colours within the distance count as one; so many of the starts must agree on a colour that a label names."""
_COVERED = 0.6
"""Share of the border, and of the middle, that a region covers which is called the background or the whole picture."""
_STEADY = 0.6
"""Smallest ratio of the net change to the mean size of the changes, for a direction such as lighter."""

_PLACES = {
    "top": (0, 3, 1, 7),
    "bottom": (5, 8, 1, 7),
    "left": (1, 7, 0, 3),
    "right": (1, 7, 5, 8),
    "centre": (2, 6, 2, 6),
    "upper left": (0, 4, 0, 4),
    "upper middle": (0, 4, 2, 6),
    "upper right": (0, 4, 4, 8),
    "lower left": (4, 8, 0, 4),
    "lower middle": (4, 8, 2, 6),
    "lower right": (4, 8, 4, 8),
    "upper half": (0, 4, 0, 8),
    "lower half": (4, 8, 0, 8),
    "left half": (0, 8, 0, 4),
    "right half": (0, 8, 4, 8),
}
"""First and last row, first and last column, of the rectangles of cells that have a name."""


def _grids() -> dict[str, Array]:
    grids = {}
    for name, (top, bottom, left, right) in _PLACES.items():
        grids[name] = np.zeros((CELLS, CELLS), np.float32)
        grids[name][top:bottom, left:right] = 1
    grids["edge"] = np.ones((CELLS, CELLS), np.float32)
    grids["edge"][1:-1, 1:-1] = 0
    grids["sides"] = np.zeros((CELLS, CELLS), np.float32)
    grids["sides"][1:7, [0, 1, 2, 5, 6, 7]] = 1
    grids["around the centre"] = np.zeros((CELLS, CELLS), np.float32)
    grids["around the centre"][1:7, 1:7] = 1
    grids["around the centre"][3:5, 3:5] = 0
    return {name: grid / np.linalg.norm(grid) for name, grid in grids.items()}


_GRIDS = _grids()


@dataclass(frozen=True)
class Region:
    """Pixels that change alike."""

    weight: Array
    """Mean change of each pixel of the region, (H, W), and 0 elsewhere."""
    share: float
    """Share of all visible change of the picture."""
    first: Array
    """Mean colour of the region at the first end, for each start, (N, 3) in OKLab."""
    last: Array
    """Mean colour of the region at the last end, (N, 3)."""
    change: float
    """Mean change of the region's pixels, in OKLab."""

    @property
    def place(self) -> str:
        """Name of the place, such as top or background."""
        return place_of(self.weight)

    def joined(self, other: "Region") -> "Region":
        """Returns this region with the pixels of another one; the colours stay those of this region."""
        return replace(self, weight=self.weight + other.weight, share=self.share + other.share)

    @property
    def is_coherent(self) -> bool:
        """True if the whole region changes its colour, rather than the things in it their shape or place."""
        moved = float(np.linalg.norm(self.last - self.first, axis=1).mean())
        return moved >= _COHERENT * self.change


def find_regions(first: Array, last: Array) -> list[Region]:
    """Divides what changes between two ends into regions, the strongest first.

    Args:
        first: Pictures at the first end, in OKLab, (N, H, W, 3).
        last: Pictures at the last end, in OKLab, (N, H, W, 3).
    """
    size = np.linalg.norm(last - first, axis=-1)
    strength = uniform_filter(size.mean(0), 3, mode="nearest")
    ends = np.concatenate([_smooth(first.mean(0)), _smooth(last.mean(0))], axis=-1)
    total = float(strength.sum())
    rest = strength > max(_MIN_CHANGE, _SHARE_OF_PEAK * float(strength.max()))
    found: list[Region] = []
    while rest.any():
        part = rest & _alike(ends, strength, rest)
        rest &= ~part
        weight = np.where(part, strength, 0)
        core = np.where(strength >= 0.7 * strength[part].max(), weight, 0)
        core /= core.sum()
        begin, end = (np.einsum("hw,nhwc->nc", core, pictures) for pictures in (first, last))
        change = float((size * core).sum((1, 2)).mean())
        found.append(Region(weight, float(weight.sum()) / total, begin, end, change))
    found.sort(key=lambda region: -region.share)
    return [region for region in found if region.share >= _MIN_SHARE] or found[:1]


def _smooth(picture: Array) -> Array:
    smoothed: Array = uniform_filter(picture, (3, 3, 1), mode="nearest")
    return smoothed


def _alike(ends: Array, strength: Array, rest: Mask) -> Mask:
    """Returns which pixels have about the colours, at both ends, of the one that changes most among the rest.

    Args:
        ends: Mean colours at the first end and at the last, (H, W, 6).
        strength: Mean size of the change, (H, W).
        rest: The pixels among which the most changed one is searched, (H, W).
    """
    peak = np.unravel_index(np.where(rest, strength, 0).argmax(), strength.shape)
    seed = ends[peak]
    changed = float(np.linalg.norm(seed[3:] - seed[:3]))
    alike: Mask = np.linalg.norm(ends - seed, axis=-1) <= max(_ONE_COLOUR, _SAME_CHANGE * changed)
    alike[peak] = True
    return alike


def place_of(weight: Array) -> str:
    """Returns the name of the place of the pixels with a weight above 0, (H, W)."""
    part = weight > 0
    height, width = part.shape
    ring = max(1, height // 16)
    border = np.ones_like(part)
    border[ring:-ring, ring:-ring] = False
    middle = part[height // 4 : -height // 4, width // 4 : -width // 4]
    if part[border].mean() >= _COVERED:
        return "whole picture" if middle.mean() >= _COVERED else "background"
    return places_on_grid(weight.reshape(CELLS, height // CELLS, CELLS, width // CELLS).sum((1, 3)))[0]


def places_on_grid(cells: Array) -> list[str]:
    """Returns the names of all rectangles, the most similar one to the weights first, by the cosine between the two.

    Args:
        cells: The weights, (CELLS, CELLS).
    """
    return sorted(_GRIDS, key=lambda name: -float((_GRIDS[name] * cells).sum()))


def colour_change(first: Array, last: Array) -> tuple[str, float]:
    """Describes how a colour changes.

    Args:
        first: The colour at the first end, for each start, (N, 3) in OKLab.
        last: The colour at the last end, (N, 3).

    Returns:
        The words, which are empty if the starts disagree, and the size of the change in just noticeable steps.
    """
    change = last - first
    score = float(np.linalg.norm(change, axis=1).mean()) / _JUST_VISIBLE
    begin, end = _agreed_name(first), _agreed_name(last)
    if begin and end and begin != end:
        return f"{begin} → {end}", score
    net = change.mean(0)
    steady = float(np.linalg.norm(net)) / max(float(np.linalg.norm(change, axis=1).mean()), 1e-9)
    if end and not begin:
        return f"becomes {end}", score
    if steady < _STEADY:
        return "", score
    words = _towards(net, first, last)
    if begin and not end and words in ("lighter", "darker"):
        words = f"{begin} → {words}"
    return words, score * steady


def overall_change(first: Array, last: Array) -> tuple[str, str, float]:
    """Describes everything that changes in one direction, such as lighter, whatever its colours are.

    Args:
        first: Pictures at the first end, in OKLab, (N, H, W, 3).
        last: Pictures at the last end, in OKLab, (N, H, W, 3).

    Returns:
        The place; the words, which are empty without a common direction; and the size of the change in just noticeable
        steps, weighted by the share of the picture.
    """
    light, chroma = last[..., 0] - first[..., 0], _chroma(last) - _chroma(first)
    size = np.linalg.norm(last - first, axis=-1)
    total = max(float(size.sum()), 1e-9)
    steady = {
        "lighter" if light.sum() > 0 else "darker": abs(float(light.sum())) / total,
        "more colourful" if chroma.sum() > 0 else "paler": abs(float(chroma.sum())) / total,
    }
    words = max(steady, key=lambda name: steady[name])
    strength = size.mean(0)
    weight = np.where(strength > max(_MIN_CHANGE, _SHARE_OF_PEAK * float(strength.max())), strength, 0)
    share = float(np.mean(weight > 0))
    if steady[words] < _STEADY or not share:
        return "", "", 0.0
    mean_size = float(strength[weight > 0].mean())
    return place_of(weight), words, steady[words] * mean_size / _JUST_VISIBLE * share**0.5


def _chroma(lab: Array) -> Array:
    chroma: Array = np.hypot(lab[..., 1], lab[..., 2])
    return chroma


def _agreed_name(colours: Array) -> str:
    """Returns the name of the colours if most of them are about alike, else an empty text.

    It is the name of the first start's colour, which is that of the typical picture, if this is one of those alike.
    """
    middle = np.median(colours, axis=0)
    name = colour_name(middle)
    alike = [float(np.linalg.norm(colour - middle)) < _NEAR or colour_name(colour) == name for colour in colours]
    if np.mean(alike) < _AGREEING:
        return ""
    return colour_name(colours[0]) if alike[0] else name


def _towards(net: Array, first: Array, last: Array) -> str:
    """Returns the direction of a change of colour that has no names at its ends."""
    chroma = float((_chroma(last) - _chroma(first)).mean())
    light, red, yellow = (float(value) for value in net)
    words = {
        "lighter" if light > 0 else "darker": abs(light) / 2,  # Lightness has a range twice as large.
        "redder" if red > 0 else "greener": abs(red),
        "yellower" if yellow > 0 else "bluer": abs(yellow),
        "more colourful" if chroma > 0 else "paler": abs(chroma),
    }
    return max(words, key=lambda word: words[word])
