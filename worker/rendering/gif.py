"""GIF encoding with shared palettes and only the changed pixels. Equal frames give equal bytes; no torch."""

import struct
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from worker.rendering.encoders import Frames, frame_delays, play_order
from worker.rendering.lzw import compress
from worker.rendering.palette import Palette, nearest_colors, refine_palette, shared_palette

_TRANSPARENT = 255
_STILL_COLORS = 64
"""Number of colours of the pixels that never change."""
_FRAMES_PER_PALETTE = 10
"""Number of frames after which the palette is refined, which gains 0.5 dB if little changes and 3 dB if much does."""
_SAMPLE_FRAMES, _SAMPLE_PIXELS = 10, 8_000
"""Largest number of frames, and approximate number of pixels, that a palette is made from."""
_CHUNK_PIXELS = 2**19
"""Number of pixels that are looked up at once, which bounds the memory for a large sheet, about 10 bytes a pixel."""

Segment = tuple[Palette, Iterable[NDArray[np.uint8]]]
"""A palette of at most 255 colours, and frames as indices into it, some (T, H, W) at a time."""


def encode_gif(
    frames: Frames,
    fps: float,
    loop: str,
    reserved: Sequence[Sequence[int]] = (),
    still: NDArray[np.bool_] | None = None,
) -> bytes:
    """Encodes a GIF that repeats for ever.

    Grey frames are exact if they use at most 255 levels; if they use all 256, level 128 is shown as its neighbour.
    Frames in colour get palettes of 255 colours (palette.py).

    Args:
        frames: uint8 (T, H, W, C), C 1 or 3.
        fps: Frames a second.
        loop: forward or pingpong.
        reserved: RGB colours that every palette holds, for parts that are small and must keep their colour.
        still: Which pixels never change, (H, W). In a GIF in colour they get colours of their own, which every palette
            holds, so that they do not change with the palette.
    """
    order = play_order(len(frames), loop)
    delays = frame_delays(len(order), fps)
    if frames[0].shape[-1] == 1:
        segments = _grey_segments(frames, order)
    else:
        segments = _color_segments(frames, order, np.array(reserved, np.uint8).reshape(-1, 3), still)
    return b"".join(_gif_blocks(segments, delays))


def _grey_segments(frames: Frames, order: Sequence[int]) -> Iterator[Segment]:
    used = np.zeros(256, bool)
    for k in range(len(frames)):
        used[frames[k].reshape(-1)] = True
    levels = np.flatnonzero(used)
    if len(levels) > _TRANSPARENT:
        levels = np.delete(levels, 128)
    table = np.abs(np.arange(256)[:, None] - levels).argmin(1).astype(np.uint8)
    palette = np.repeat(levels[:, None], 3, 1).astype(np.uint8)
    yield palette, (table[np.stack([frames[k][..., 0] for k in part])] for part in _chunks(frames, order))


def _color_segments(
    frames: Frames, order: Sequence[int], reserved: Palette, still: NDArray[np.bool_] | None
) -> Iterator[Segment]:
    palette: Palette | None = None
    moving = slice(None) if still is None else ~still
    unchanged = None
    if still is not None and still.any():
        pixels = frames[order[0]][still]
        stride = max(1, len(pixels) // _SAMPLE_PIXELS) | 1
        reserved = np.concatenate([reserved, shared_palette(pixels[::stride], _STILL_COLORS)])
        unchanged = still, nearest_colors(pixels, reserved)
    for begin in range(0, len(order), _FRAMES_PER_PALETTE):
        part = order[begin : begin + _FRAMES_PER_PALETTE]
        sample = _sample(frames, sorted(set(part)), moving)
        if palette is None:
            palette = shared_palette(sample, _TRANSPARENT - len(reserved))
        else:
            palette = refine_palette(sample, palette)
        # Reserved colours come first, so that they win against others at the same distance.
        complete = np.concatenate([reserved, palette])
        yield complete, _indices(frames, part, complete, unchanged)


def _sample(frames: Frames, candidates: Sequence[int], moving: slice | NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Returns moving pixels (N, 3) that are spread over the frames."""
    chosen = candidates[:: max(1, -(-len(candidates) // _SAMPLE_FRAMES))]
    pixels = [frames[k][moving].reshape(-1, 3) for k in chosen]
    # An odd stride does not stay in the same columns of a picture with an even width.
    stride = max(1, sum(map(len, pixels)) // _SAMPLE_PIXELS) | 1
    return np.concatenate([p[k % stride :: stride] for k, p in enumerate(pixels)])


def _chunks(frames: Frames, order: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yields the order in parts of about _CHUNK_PIXELS pixels."""
    height, width, _ = frames[order[0]].shape
    length = max(1, _CHUNK_PIXELS // (height * width))
    for begin in range(0, len(order), length):
        yield order[begin : begin + length]


def _indices(
    frames: Frames,
    order: Sequence[int],
    palette: Palette,
    unchanged: tuple[NDArray[np.bool_], NDArray[np.uint8]] | None,
) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames as indices into a palette.

    Args:
        frames: The frames.
        order: The frames to encode.
        palette: The colours.
        unchanged: Which pixels never change, (H, W), and their indices.
    """
    for part in _chunks(frames, order):
        pixels = np.stack([frames[k] for k in part])
        indices = nearest_colors(pixels.reshape(-1, 3), palette).reshape(pixels.shape[:3])
        if unchanged is not None:
            indices[:, unchanged[0]] = unchanged[1]
        yield indices


def _gif_blocks(segments: Iterable[Segment], delays: Sequence[int]) -> Iterator[bytes]:
    """Yields the bytes of a GIF: a header, then for each frame the rows that changed.

    Pixels that did not change are transparent, which compresses better.
    """
    delay = iter(delays)
    before: NDArray[np.uint32] | None = None  # The colours of the last frame.
    for palette, chunks in segments:
        table = np.zeros((256, 3), np.uint8)
        table[: len(palette)] = palette
        colors = table.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        local_table = b"" if before is None else table.tobytes()
        for indices in chunks:
            if before is None:
                yield _gif_header(indices[0], table)
            same = np.empty(indices.shape, bool)
            same[0] = False if before is None else colors.take(indices[0]) == before
            np.equal(indices[1:], indices[:-1], out=same[1:])
            before = colors.take(indices[-1])
            height, width = indices.shape[1:]
            changed: NDArray[np.bool_] = np.logical_not(same.all(2))
            tops = changed.argmax(1).tolist()
            bottoms = (height - changed[:, ::-1].argmax(1)).tolist()
            indices[same] = _TRANSPARENT
            # Frames are compressed from one picture of all of them, which takes less time than one picture for each.
            film = Image.fromarray(indices.reshape(-1, width))
            for k, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
                if not changed[k, top]:  # Nothing changed; one transparent row prolongs the frame before.
                    bottom = top + 1
                compressed = compress(film, k * height + top, bottom - top)
                yield _gif_image(compressed, top, bottom - top, width, next(delay), local_table)
    yield b";"


def _gif_header(indices: NDArray[np.uint8], table: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(indices))
    image.putpalette(table.tobytes())
    return b"".join(GifImagePlugin.getheader(image, info={"loop": 0, "duration": 10})[0])


def _gif_image(compressed: bytes, top: int, height: int, width: int, delay: int, local_table: bytes) -> bytes:
    """Returns one image of a GIF: graphic control extension, descriptor, local palette if any, and image data."""
    keep_what_is_there, has_transparency = 1 << 2, 1
    flags = keep_what_is_there | has_transparency
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, flags, delay, _TRANSPARENT, 0)
    descriptor = struct.pack("<BHHHHB", 0x2C, 0, top, width, height, 0x87 if local_table else 0)
    return b"".join((control, descriptor, local_table, compressed))
