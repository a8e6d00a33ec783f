"""Packing of the data sets that our own code draws; free of torch."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from training.data import chairs, dsprites
from training.data.images import Preprocessing
from training.data.pack_writer import PackWriter
from training.data.packs import PackInfo, factor_grid
from training.data.sources import BuiltIn, OnProgress

VERSIONS = {"dsprites": 1, "dsprites_color": 1, "chairs": 1}
"""Version of each renderer. It is raised when the drawn pixels change, which makes older packs stale."""

_RENDERERS: dict[str, ModuleType] = {"dsprites": dsprites, "dsprites_color": dsprites, "chairs": chairs}
_COLOUR_SEED = 20181129
_SAMPLE_SEED = 0
_BLOCK = 1024


def builtin_fingerprint(source: BuiltIn) -> str:
    """Returns the name and version of the renderer and the number of images, as one text."""
    return f"{source.name}-{VERSIONS[source.name]}-{source.max_images or 'all'}"


def num_images(source: BuiltIn) -> int:
    """Returns the number of images that are drawn."""
    total = int(np.prod(factor_sizes(source.name)))
    return min(total, source.max_images or total)


def factor_sizes(name: str) -> tuple[int, ...]:
    """Returns the number of values of each factor of a set."""
    sizes: tuple[int, ...] = _RENDERERS[name].FACTOR_SIZES
    return sizes


def has_colour(source: BuiltIn) -> bool:
    """Returns True if the set is drawn in colours."""
    return source.name != "dsprites"


def pack_builtin(
    source: BuiltIn, target: Path, preprocessing: Preprocessing, *, name: str, on_progress: OnProgress, num_workers: int
) -> PackInfo:
    """Draws a built-in set into a pack.

    Args:
        source: The set and the number of its images that are drawn.
        target: Folder of the pack, which is replaced.
        preprocessing: Size and channels; images are drawn at this size, so that a crop changes nothing.
        name: Name of the pack, for people.
        on_progress: Called with (done, total) images after each block.
        num_workers: Threads that draw.

    Returns:
        The description of the pack.
    """
    renderer = _RENDERERS[source.name]
    sizes = factor_sizes(source.name)
    total, count = int(np.prod(sizes)), num_images(source)
    grid = factor_grid(sizes)
    chosen = np.arange(count) * total // count
    whole = count == total
    if whole:
        blocks = renderer.render_all(preprocessing.image_size, num_workers=num_workers)
    else:
        blocks = (
            renderer.render(grid[c], preprocessing.image_size) for c in np.array_split(chosen, -(-count // _BLOCK))
        )
    if source.name == "dsprites_color":
        blocks = _coloured(blocks, total, chosen)
    with PackWriter(target, preprocessing) as writer:
        for block in blocks:
            writer.add(_with_channels(block, preprocessing.num_channels))
            on_progress(writer.num_images, count)
        return writer.finish(
            name=name,
            kind="builtin",
            source=source.name,
            factors=grid[chosen],
            factor_names=renderer.FACTOR_NAMES,
            factor_sizes=sizes,
            full_grid=whole,
            source_fingerprint=builtin_fingerprint(source),
        )


def draw_sample(source: BuiltIn, preprocessing: Preprocessing, count: int) -> NDArray[np.uint8]:
    """Draws a few images of a set, always the same ones.

    Args:
        source: The set.
        preprocessing: Size and channels.
        count: Number of images, at most that of the set.

    Returns:
        (n, H, W, C) uint8.
    """
    renderer = _RENDERERS[source.name]
    sizes: tuple[int, ...] = renderer.FACTOR_SIZES
    total = int(np.prod(sizes))
    chosen = np.random.default_rng(_SAMPLE_SEED).choice(total, min(count, total), replace=False)
    blocks = iter([renderer.render(np.stack(np.unravel_index(chosen, sizes), axis=1), preprocessing.image_size)])
    if source.name == "dsprites_color":
        blocks = _coloured(blocks, total, chosen)
    return _with_channels(next(blocks), preprocessing.num_channels)


def _coloured(
    blocks: Iterator[NDArray[np.uint8]], total: int, chosen: NDArray[np.int64]
) -> Iterator[NDArray[np.uint8]]:
    """Gives each image its own RGB colour from U(.5, 1) (Locatello et al. 2019).

    An image has the same colour in any subset.

    Args:
        blocks: (n, H, W) uint8 images of sprites, 0 or 255.
        total: Number of images of the whole set.
        chosen: Indices, in the whole set, of the images that the blocks hold.

    Yields:
        (n, H, W, 3) uint8.
    """
    colours = np.random.default_rng(_COLOUR_SEED).uniform(0.5, 1, (total, 3))
    pixels = np.round(255 * colours).astype(np.uint8)[chosen]
    start = 0
    for block in blocks:
        colour = pixels[start : start + len(block), None, None, :]
        yield (block[..., None] > 0) * colour
        start += len(block)


def _with_channels(block: NDArray[np.uint8], num_channels: int) -> NDArray[np.uint8]:
    """Converts (n, H, W) or (n, H, W, 3) to (n, H, W, num_channels); grey is Rec. 601 luma, as in Pillow."""
    if block.ndim == 3:
        return np.repeat(block[..., None], num_channels, axis=3)
    if num_channels == 1:
        luma = block.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        return np.round(luma)[..., None].astype(np.uint8)
    return block
