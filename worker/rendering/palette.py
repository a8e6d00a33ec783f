"""Palettes for GIF: 255 colours for many frames, and a fast look-up of the nearest colour.

Quantising each frame by itself costs most of the time of a GIF, and stores a palette per frame. Frames of one
traversal share their colours, so one palette for several frames, refined by k-means, is better than median cut on
every single frame (benchmarks/traversal_speed.py measures it).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Palette = NDArray[np.uint8]
"""Colours, (K, 3) RGB."""

_BITS = 5
"""Number of bits of each channel that select a cell of the colour cube."""

_KMEANS_ROUNDS = 2
_ROWS = 256
"""Number of rows in one distance product. With more rows, BLAS starts threads, which compete for the cores."""


def shared_palette(pixels: NDArray[np.uint8], num_colors: int) -> Palette:
    """Finds colours that represent pixels well: those of a fast octree, refined by k-means.

    Args:
        pixels: (N, 3) RGB.
        num_colors: The most colours.

    Returns:
        (K, 3) RGB, K ≤ num_colors.
    """
    width = 64
    usable = pixels[: len(pixels) // width * width] if len(pixels) >= width else np.resize(pixels, (width, 3))
    sample = Image.fromarray(np.ascontiguousarray(usable).reshape(-1, width, 3))
    quantized = sample.quantize(num_colors, method=Image.Quantize.FASTOCTREE)
    colors = np.array(quantized.getpalette(), np.uint8).reshape(-1, 3)[:num_colors]
    return refine_palette(pixels, colors, rounds=_KMEANS_ROUNDS + 1)


def refine_palette(pixels: NDArray[np.uint8], palette: Palette, rounds: int = _KMEANS_ROUNDS) -> Palette:
    """Improves a palette by k-means (Lloyd 1982) on a histogram of the pixels.

    A colour that no pixel is nearest to moves to where the error is largest.

    Args:
        pixels: (N, 3) RGB.
        palette: (K, 3) RGB, where k-means begins.
        rounds: Number of rounds.

    Returns:
        (K, 3) RGB.
    """
    means, weights = _histogram(pixels)
    colors = palette.astype(np.float32)
    for _ in range(rounds):
        nearest = _nearest_rows(means, colors)
        mass = np.bincount(nearest, weights, len(colors))
        sums = [np.bincount(nearest, weights * means[:, channel], len(colors)) for channel in range(3)]
        used = mass > 0
        colors[used] = (np.stack(sums, 1)[used] / mass[used, None]).astype(np.float32)
        unused = np.flatnonzero(~used)
        if len(unused):
            error = weights * ((means - colors[nearest]) ** 2).sum(1)
            worst = np.argsort(-error, kind="stable")[: len(unused)]
            colors[unused[: len(worst)]] = means[worst]
    rounded: Palette = np.clip(np.round(colors), 0, 255).astype(np.uint8)
    return rounded


def nearest_colors(pixels: NDArray[np.uint8], palette: Palette) -> NDArray[np.uint8]:
    """Finds a nearest palette colour for each pixel.

    The search is done once per cell of a 15-bit colour cube, for one of the pixels in it, so that it is exact in flat
    parts of a picture.

    Args:
        pixels: (N, 3) RGB.
        palette: (K, 3) RGB.

    Returns:
        (N,) indices into the palette.
    """
    words = _words(pixels)
    keys = _keys(words, _BITS)
    members = np.zeros(1 << 3 * _BITS, np.uint32)
    members[keys] = words | np.uint32(1 << 24)
    cells = np.flatnonzero(members)
    colors = members[cells].view(np.uint8).reshape(-1, 4)[:, 2::-1]
    table = np.zeros(len(members), np.uint8)
    table[cells] = _nearest_rows(colors.astype(np.float32), palette.astype(np.float32))
    return table.take(keys)


def _words(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Returns 0x00RRGGBB of each pixel, since shifting whole words is several times faster than every third byte."""
    bytes_ = np.zeros((len(pixels), 4), np.uint8)
    for channel in range(3):
        bytes_[:, 2 - channel] = pixels[:, channel]
    words: NDArray[np.uint32] = bytes_.view("<u4")[:, 0]
    return words


def _keys(words: NDArray[np.uint32], bits: int) -> NDArray[np.intp]:
    """Returns, for each pixel, its cell in a colour cube with 2**bits cells a side."""
    mask, drop = np.uint32((1 << bits) - 1), np.uint32(8 - bits)
    keys: NDArray[np.uint32] = (words >> drop) & mask
    keys |= (words >> np.uint32(2 * drop)) & np.uint32(mask << bits)
    keys |= (words >> np.uint32(3 * drop)) & np.uint32(mask << 2 * bits)
    return keys.astype(np.intp)  # Indexing would convert to this type anyway.


def _histogram(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns mean colour (M, 3) and number of pixels (M,) of each occupied cell of a 15-bit colour cube."""
    keys = _keys(_words(pixels), _BITS)
    counts = np.bincount(keys, minlength=1 << 3 * _BITS)
    cells = np.flatnonzero(counts)
    weights = counts[cells].astype(np.float32)
    place_of_cell = np.empty(len(counts), np.intp)
    place_of_cell[cells] = np.arange(len(cells))
    places = place_of_cell.take(keys)
    sums = [np.bincount(places, pixels[:, channel], len(cells)) for channel in range(3)]
    return np.stack(sums, 1).astype(np.float32) / weights[:, None], weights


def _nearest_rows(points: NDArray[np.float32], colors: NDArray[np.float32]) -> NDArray[np.intp]:
    """Returns the index of the nearest colour for each point, which is the argmax of p·c − |c|²/2."""
    nearest = np.empty(len(points), np.intp)
    offsets = -0.5 * (colors * colors).sum(1)
    with_offsets = np.concatenate([colors.T, offsets[None]])  # The fourth coordinate is 1 for each point.
    with_ones = np.concatenate([points, np.ones((len(points), 1), np.float32)], 1)
    scores = np.empty((_ROWS, len(colors)), np.float32)
    for row in range(0, len(points), _ROWS):
        part = with_ones[row : row + _ROWS]
        found = np.matmul(part, with_offsets, out=scores[: len(part)])
        found.argmax(1, out=nearest[row : row + _ROWS])
    return nearest
