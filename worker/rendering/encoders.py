"""Frames → files: GIF, animated WebP, MP4, PNG, zip. Equal frames give equal bytes; no torch.

Frames are uint8, (T, H, W, C) with C 1 (grey) or 3 (RGB), in the order in which they were decoded; the encoders play
them forward or ping-pong.
"""

import io
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from models.bundles import write_zip
from worker.rendering.palette import Palette, nearest_colors, refine_palette, shared_palette
from worker.rendering.request import Pixels

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Frames(Protocol):
    """Frames by index: an array (T, H, W, C), a list, or something that makes each when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int, /) -> Pixels: ...


_TRANSPARENT = 255
_FRAMES_PER_PALETTE = 10
"""After so many frames the palette follows the colours: half a decibel where little changes, 3 dB where much does."""
_SAMPLE_FRAMES, _SAMPLE_PIXELS = 10, 8_000
"""What a palette is made from, at most: so many frames, so many pixels."""
_CHUNK_PIXELS = 2**19
"""Pixels that are looked up at once: bounds the memory that a large sheet takes (some 10 bytes a pixel)."""


def play_order(num_frames: int, loop: str) -> list[int]:
    """Indices of the frames as they are shown; ping-pong shows each end once a cycle."""
    forward = list(range(num_frames))
    return forward + forward[-2:0:-1] if loop == "pingpong" else forward


def enlarge(frame: Pixels, scale: int, resample: str) -> Pixels:
    """One frame (H, W, C), enlarged; bicubic and Lanczos overshoots are clipped to 0…255."""
    if scale == 1:
        return frame
    if resample == "nearest":
        return frame.repeat(scale, 0).repeat(scale, 1)
    height, width, channels = frame.shape
    image = to_image(frame).resize((width * scale, height * scale), FILTERS[resample])
    return np.asarray(image).reshape(height * scale, width * scale, channels)


def to_image(frame: Pixels) -> Image.Image:
    """A Pillow picture (mode L or RGB) of a frame (H, W, C)."""
    return Image.fromarray(np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame))


def encode_png(frame: Pixels) -> bytes:
    """PNG of one frame (H, W, C)."""
    stream = io.BytesIO()
    # Level 6 takes three times as long for a tenth fewer bytes.
    to_image(frame).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def decode_png(data: bytes) -> Pixels:
    """Reads what encode_png wrote: uint8 (H, W, C)."""
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _delays(num_frames: int, fps: float) -> list[int]:
    """Hundredths of a second for each frame, at least 2 (browsers slow down less), with the rounding spread out."""
    ends = [round(100 * (k + 1) / fps) for k in range(num_frames)]
    return [max(2, end - begin) for begin, end in zip([0, *ends], ends, strict=False)]


def encode_gif(frames: Frames, fps: float, loop: str, reserved: Sequence[Sequence[int]] = ()) -> bytes:
    """GIF that repeats for ever: a shared palette, and only what changes from frame to frame.

    Grey frames are exact where they use at most 255 levels; with all 256, level 128 is shown as its neighbour.
    Colours are as palette.py finds them, and those reserved (RGB) for what is small and must not fade.
    """
    order = play_order(len(frames), loop)
    delays = _delays(len(order), fps)
    if frames[0].shape[-1] == 1:
        segments = _grey_segments(frames, order)
    else:
        segments = _color_segments(frames, order, np.array(reserved, np.uint8).reshape(-1, 3))
    return b"".join(_gif_blocks(segments, delays))


Segment = tuple[Palette, Iterable[NDArray[np.uint8]]]
"""A palette of at most 255 colours, and the frames as indices into it, some (T, H, W) at a time."""


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


def _color_segments(frames: Frames, order: Sequence[int], reserved: Palette) -> Iterator[Segment]:
    palette: Palette | None = None
    for begin in range(0, len(order), _FRAMES_PER_PALETTE):
        part = order[begin : begin + _FRAMES_PER_PALETTE]
        sample = _sample(frames, sorted(set(part)))
        if palette is None:
            palette = shared_palette(sample, _TRANSPARENT - len(reserved))
        else:
            palette = refine_palette(sample, palette)
        complete = np.concatenate([reserved, palette])  # first, so that they win where another is as near
        yield complete, _indices(frames, part, complete)


def _sample(frames: Frames, candidates: Sequence[int]) -> NDArray[np.uint8]:
    """Pixels (N, 3) spread over the frames."""
    chosen = candidates[:: max(1, -(-len(candidates) // _SAMPLE_FRAMES))]
    pixels = [frames[k].reshape(-1, 3) for k in chosen]
    # An odd stride does not walk down the columns of a picture with an even width.
    stride = max(1, sum(map(len, pixels)) // _SAMPLE_PIXELS) | 1
    return np.concatenate([p[k % stride :: stride] for k, p in enumerate(pixels)])


def _chunks(frames: Frames, order: Sequence[int]) -> Iterator[Sequence[int]]:
    """The order in parts of about _CHUNK_PIXELS pixels."""
    height, width, _ = frames[order[0]].shape
    length = max(1, _CHUNK_PIXELS // (height * width))
    for begin in range(0, len(order), length):
        yield order[begin : begin + length]


def _indices(frames: Frames, order: Sequence[int], palette: Palette) -> Iterator[NDArray[np.uint8]]:
    for part in _chunks(frames, order):
        pixels = np.stack([frames[k] for k in part])
        yield nearest_colors(pixels.reshape(-1, 3), palette).reshape(pixels.shape[:3])


def _gif_blocks(segments: Iterable[Segment], delays: Sequence[int]) -> Iterator[bytes]:
    """The bytes of a GIF: header, then for each frame the rows that changed, unchanged pixels transparent."""
    delay = iter(delays)
    before: NDArray[np.uint32] | None = None  # the colours of the last frame
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
            # One picture of all frames: each is compressed out of its part, which costs less than a picture for each.
            film = Image.fromarray(indices.reshape(-1, width))
            for k, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
                if not changed[k, top]:  # nothing changed: a row of transparent pixels shows it for longer
                    bottom = top + 1
                compressed = _compress(film, k * height + top, bottom - top)
                yield _gif_image(compressed, top, bottom - top, width, next(delay), local_table)
    yield b";"


def _gif_header(indices: NDArray[np.uint8], table: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(indices))
    image.putpalette(table.tobytes())
    return b"".join(GifImagePlugin.getheader(image, info={"loop": 0, "duration": 10})[0])


_BITS = 8


def _compress(film: Image.Image, top: int, height: int) -> bytes:
    """Some rows of indices as a GIF's blocks of LZW codes.

    Pillow's encoder compresses; its getdata would do the rest as well, at four times the cost for small frames.
    """
    encoder = Image._getencoder(film.mode, "gif", ("L",), (_BITS, 0))
    encoder.setimage(film.im, (0, top, film.width, top + height))
    blocks, status = [], 0
    while not status:
        _, status, block = encoder.encode(max(1 << 16, 4 * film.width))
        blocks.append(block)
    if status < 0:
        raise RuntimeError(f"the GIF encoder failed: {status}")
    return b"".join(blocks)


def _gif_image(compressed: bytes, top: int, height: int, width: int, delay: int, local_table: bytes) -> bytes:
    """One image of a GIF: graphic control extension, descriptor, palette of its own if any, compressed indices."""
    keep_what_is_there, has_transparency = 1 << 2, 1
    flags = keep_what_is_there | has_transparency
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, flags, delay, _TRANSPARENT, 0)
    descriptor = struct.pack("<BHHHHB", 0x2C, 0, top, width, height, 0x87 if local_table else 0)
    return b"".join((control, descriptor, local_table, bytes((_BITS,)), compressed, b"\0"))


def encode_webp(frames: Frames, fps: float, loop: str) -> bytes:
    """Animated WebP that repeats for ever; lossy at a quality where no artefact shows."""
    order = play_order(len(frames), loop)
    durations = [10 * delay for delay in _delays(len(order), fps)]
    stream = io.BytesIO()
    options: dict[str, Any] = {"quality": 90, "method": 2, "loop": 0}
    _Film(frames, order).save(stream, "WEBP", save_all=True, duration=durations, **options)
    return stream.getvalue()


class _Film(Image.Image):
    """A picture of many frames, as Pillow sees an animation that it has opened; each is made when it is sought.

    Pillow would take a list as well, but then all frames of a large sheet are in memory at once.
    """

    def __init__(self, frames: Frames, order: Sequence[int]) -> None:
        super().__init__()
        self._frames, self._order = frames, order
        self.n_frames = len(order)
        self.seek(0)

    def seek(self, frame: int) -> None:
        image = to_image(self._frames[self._order[frame]]).convert("RGB")
        self.im, self._mode, self._size = image.im, image.mode, image.size

    def tell(self) -> int:
        return 0


def encode_mp4(frames: Frames, fps: float, loop: str) -> bytes:
    """H.264 in MP4, in the pixel format that every player knows; an odd side gains a row or column."""
    import imageio.v2  # here: its ffmpeg is not in the API's image

    height, width, _ = frames[0].shape
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.mp4"
        # One thread and no version strings: the same frames give the same bytes.
        flags = ["-crf", "16", "-preset", "veryfast", "-threads", "1", "-bitexact", "-movflags", "+faststart"]
        with imageio.v2.get_writer(
            path, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=1, output_params=flags
        ) as writer:
            for k in play_order(len(frames), loop):
                frame = np.pad(frames[k], padding, mode="edge")
                writer.append_data(frame.repeat(3, -1) if frame.shape[-1] == 1 else frame)  # type: ignore[attr-defined]
        return path.read_bytes()


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """A zip of files by name, in that order: equal files give equal bytes."""
    stream = io.BytesIO()
    write_zip(files, stream)
    return stream.getvalue()
