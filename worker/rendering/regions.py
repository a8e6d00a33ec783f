"""Regions of a picture that change together along one latent dimension, and their colours in words; no torch."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import uniform_filter

from worker.rendering.colours import JUST_VISIBLE, Array, Mask, chroma, medoid

CELLS = 8
"""Number of cells along a side of the grids that places are named on."""
_MIN_CHANGE = 0.015
"""Changes of a pixel below this, averaged over the starts, belong to no region."""
_SHARE_OF_PEAK = 0.5
"""A pixel belongs to a region if its change looks at least this large beside that of the most changing one."""
_ONE_COLOUR, _SAME_CHANGE = 0.06, (0.45, 0.7, 1.0)
"""Largest distance between the colours, at both ends, of two pixels of a region: in OKLab, and in the change of one. A
second or third value applies where the regions explain too little of the change."""
_PLAIN_CHANGE = 0.35
"""Distance in OKLab at which one colour has plainly become another one, such as brown blue."""
_EXPLAINED = 0.35
"""Smallest share of all change that regions explain together."""
_COHERENT = 0.5
"""Smallest ratio of the change of a region's mean colour to the mean change of its pixels, for words of colour."""
_CORE, _SAMPLE = 0.85, 200
"""Pixels of a region whose change looks at least so large beside that of its most changing one show its colours; and
how many of them are looked at in a picture."""
_MIN_SHARE = 0.1
"""Smallest share of all change that a region has; if none has it, the largest one is taken."""
_COVERED = 0.6
"""Share of the border, and of the middle, that a region covers which is called the background or the whole picture."""
_UNANIMOUS, _VAGUE = 0.8, 0.5
"""Smallest ratio at which everything changes in one direction; and the weight, where less does, of a direction beside
words that say from which colour to which."""
_SHARE_OF_CHANGE = 0.3
"""A pixel takes part in a direction if it changes at least this much of what the most changing one does."""
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
    """Seen size of the mean change of each pixel of the region, (H, W), and 0 elsewhere."""
    share: float
    """Share of all visible change of the picture, as the sum of the squares of its pixels' seen changes."""
    first: Array
    """Colour of a pixel of the region at the first end, for each start, (N, 3) in OKLab: the pixel that is most like
    the others at both ends. A mean would be a colour that can be seen nowhere if the region had two colours."""
    last: Array
    """Colour of the same pixels at the last end, (N, 3)."""
    coherence: float
    """Ratio of the change of the region's mean colour to the mean change of its pixels, 0 to 1."""

    @property
    def places(self) -> list[str]:
        """Names of the place, such as top or background, the best one first."""
        return places_of(self.weight)

    def joined(self, other: "Region") -> "Region":
        """Returns this region with the pixels of another one; the colours stay those of this region."""
        return replace(self, weight=self.weight + other.weight, share=self.share + other.share)

    @property
    def is_coherent(self) -> bool:
        """True if the whole region changes its colour, rather than the things in it their shape or place."""
        return self.coherence >= _COHERENT


def find_regions(first: Array, last: Array, within: Mask | None = None) -> list[Region]:
    """Divides what changes between two ends into regions, the strongest first.

    Pixels of one region look alike at the first end, and alike at the last end, in most of the pictures.

    Args:
        first: Pictures at the first end, in OKLab, (N, H, W, 3).
        last: Pictures at the last end, in OKLab, (N, H, W, 3).
        within: The pixels that count, (H, W) (default: all).
    """
    strength = seen_size(uniform_filter(np.linalg.norm(last - first, axis=-1).mean(0), 3, mode="nearest"))
    if within is not None:
        strength = np.where(within, strength, 0)
    ends = uniform_filter(np.concatenate([first, last], axis=-1), (1, 3, 3, 1), mode="nearest")
    for same_change in _SAME_CHANGE:
        found = _divided(ends, strength, same_change)
        if sum(region.share for region in found) >= _EXPLAINED:
            break
    return found


def seen_size(distance: Array) -> Array:
    """Returns how large changes of colour look: beyond _PLAIN_CHANGE, a larger distance hardly looks larger."""
    size: Array = distance * _PLAIN_CHANGE / (distance + _PLAIN_CHANGE)
    return size


def _divided(ends: Array, strength: Array, same_change: float) -> list[Region]:
    """Returns the regions whose share is large enough, or else the largest one.

    Args:
        ends: Colours at the first end and at the last, (N, H, W, 6).
        strength: Seen size of the mean change, (H, W).
        same_change: An entry of _SAME_CHANGE.
    """
    total = float(np.square(strength).sum())
    rest = strength > max(_MIN_CHANGE, _SHARE_OF_PEAK * float(strength.max()))
    found: list[Region] = []
    while rest.any():
        part = rest & _alike(ends, strength, rest, same_change)
        rest &= ~part
        found.append(_region(ends, np.where(part, strength, 0), total))
    found.sort(key=lambda region: -region.share)
    return [region for region in found if region.share >= _MIN_SHARE] or found[:1]


def _alike(ends: Array, strength: Array, rest: Mask, same_change: float) -> Mask:
    """Returns which pixels look like the one that changes most among the rest, in most of the pictures."""
    row, column = np.unravel_index(np.where(rest, strength, 0).argmax(), strength.shape)
    seeds = ends[:, row, column]
    changed = np.linalg.norm(seeds[:, 3:] - seeds[:, :3], axis=-1)
    distance = np.linalg.norm(ends - seeds[:, None, None], axis=-1)
    far = distance / np.maximum(_ONE_COLOUR, same_change * changed)[:, None, None]
    alike: Mask = np.median(far, axis=0) <= 1
    alike[row, column] = True
    return alike


def _region(ends: Array, weight: Array, total: float) -> Region:
    """Returns the region of the pixels with a weight above 0, (H, W)."""
    core = np.flatnonzero(weight >= _CORE * weight.max())
    pixels = ends.reshape(len(ends), -1, 6)[:, core]
    changes = pixels[..., 3:] - pixels[..., :3]
    mean_change = float(np.linalg.norm(changes.mean(1), axis=-1).mean())
    coherence = mean_change / max(float(np.linalg.norm(changes, axis=-1).mean()), 1e-9)
    sample = pixels[:, :: max(1, len(core) // _SAMPLE)]
    weights = np.linalg.norm(sample[..., 3:] - sample[..., :3], axis=-1)
    chosen = np.array([row[medoid(row, own)] for row, own in zip(sample, weights, strict=True)])
    return Region(weight, float(np.square(weight).sum()) / total, chosen[:, :3], chosen[:, 3:], coherence)


def places_of(weight: Array) -> list[str]:
    """Returns the names of the place of the pixels with a weight above 0, (H, W), the best one first."""
    part = weight > 0
    height, width = part.shape
    ring = max(1, height // 16)
    border = np.ones_like(part)
    border[ring:-ring, ring:-ring] = False
    middle = part[height // 4 : -height // 4, width // 4 : -width // 4]
    if part[border].mean() >= _COVERED:
        return ["whole picture" if middle.mean() >= _COVERED else "background"]
    return places_on_grid(weight.reshape(CELLS, height // CELLS, CELLS, width // CELLS).sum((1, 3)))


def places_on_grid(cells: Array) -> list[str]:
    """Returns the names of all rectangles, the most similar one to the weights first, by the cosine between the two.

    Args:
        cells: The weights, (CELLS, CELLS).
    """
    return sorted(_GRIDS, key=lambda name: -float((_GRIDS[name] * cells).sum()))


def overall_change(first: Array, last: Array) -> tuple[str, str, float]:
    """Describes everything that changes in one direction, such as lighter, whatever its colours are.

    Args:
        first: Pictures at the first end, in OKLab, (N, H, W, 3).
        last: Pictures at the last end, in OKLab, (N, H, W, 3).

    Returns:
        The place; the words, which are empty without a common direction; and the size of the change in just noticeable
        steps, weighted by the share of the picture.
    """
    light, colourful = last[..., 0] - first[..., 0], chroma(last) - chroma(first)
    size = np.linalg.norm(last - first, axis=-1)
    total = max(float(size.sum()), 1e-9)
    steady = {
        "lighter" if light.sum() > 0 else "darker": abs(float(light.sum())) / total,
        "more colourful" if colourful.sum() > 0 else "paler": abs(float(colourful.sum())) / total,
    }
    words = max(steady, key=lambda name: steady[name])
    strength = size.mean(0)
    weight = np.where(strength > max(_MIN_CHANGE, _SHARE_OF_CHANGE * float(strength.max())), strength, 0)
    share = float(np.mean(weight > 0))
    if steady[words] < _STEADY or not share:
        return "", "", 0.0
    seen = float(seen_size(strength[weight > 0]).mean()) / JUST_VISIBLE
    alone = 1.0 if steady[words] >= _UNANIMOUS else _VAGUE
    return places_of(weight)[0], words, alone * steady[words] * seen * share**0.5
