"""Encoding of frames as PNG, animated WebP, MP4 and zip; gif.py encodes GIF. Equal frames give equal bytes; no torch.

Frames are uint8, (T, H, W, C) with C 1 (grey) or 3 (RGB), in the order in which they were decoded; the encoders play
them forward or back and forth.
"""

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from models.bundles import write_zip
from worker.rendering.request import Pixels

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Frames(Protocol):
    """Frames by index: an array (T, H, W, C), a list, or an object that makes each frame on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int, /) -> Pixels: ...


def play_order(num_frames: int, loop: str) -> list[int]:
    """Returns the indices of the frames in the order in which they are shown.

    Args:
        num_frames: Number of frames, T.
        loop: forward, or pingpong, which shows each end once a cycle.
    """
    forward = list(range(num_frames))
    return forward + forward[-2:0:-1] if loop == "pingpong" else forward


def frame_delays(num_frames: int, fps: float) -> list[int]:
    """Returns for how many hundredths of a second each frame is shown, with the rounding spread over the frames.

    A delay is at least 2, because browsers slow shorter ones down.
    """
    ends = [round(100 * (k + 1) / fps) for k in range(num_frames)]
    return [max(2, end - begin) for begin, end in zip([0, *ends], ends, strict=False)]


def enlarge(frame: Pixels, scale: int, resample: str) -> Pixels:
    """Enlarges one frame; overshoots of the bicubic and Lanczos filters are clipped to 0…255.

    Args:
        frame: (H, W, C) uint8.
        scale: Whole factor.
        resample: Name of a filter, out of FILTERS.

    Returns:
        (scale·H, scale·W, C) uint8.
    """
    if scale == 1:
        return frame
    if resample == "nearest":
        return frame.repeat(scale, 0).repeat(scale, 1)
    height, width, channels = frame.shape
    image = to_image(frame).resize((width * scale, height * scale), FILTERS[resample])
    return np.asarray(image).reshape(height * scale, width * scale, channels)


def to_image(frame: Pixels) -> Image.Image:
    """Returns a frame (H, W, C) as a Pillow image of mode L or RGB."""
    return Image.fromarray(np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame))


def encode_png(frame: Pixels) -> bytes:
    """Encodes one frame (H, W, C) as PNG."""
    stream = io.BytesIO()
    # Level 6 saves a tenth of the bytes, but takes three times as long.
    to_image(frame).save(stream, "PNG", compress_level=3)
    return stream.getvalue()


def decode_png(data: bytes) -> Pixels:
    """Reads what encode_png wrote: uint8 (H, W, C)."""
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def encode_webp(frames: Frames, fps: float, loop: str) -> bytes:
    """Encodes an animated WebP that repeats for ever; it is lossy, at a quality at which no artefact shows.

    Args:
        frames: uint8 (T, H, W, C).
        fps: Frames a second.
        loop: forward or pingpong.
    """
    order = play_order(len(frames), loop)
    durations = [10 * delay for delay in frame_delays(len(order), fps)]
    stream = io.BytesIO()
    options: dict[str, Any] = {"quality": 90, "method": 2, "loop": 0}
    _Film(frames, order).save(stream, "WEBP", save_all=True, duration=durations, **options)
    return stream.getvalue()


class _Film(Image.Image):
    """An animation as Pillow sees one that it has opened; each frame is made when Pillow seeks it.

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
    """Encodes H.264 in MP4, in the pixel format that every player knows; an odd side gains a row or column.

    Args:
        frames: uint8 (T, H, W, C).
        fps: Frames a second.
        loop: forward or pingpong.
    """
    import imageio.v2  # The API's image does not have its ffmpeg.

    height, width, _ = frames[0].shape
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sheet.mp4"
        # With one thread and no version strings, the same frames give the same bytes.
        flags = ["-crf", "16", "-preset", "veryfast", "-threads", "1", "-bitexact", "-movflags", "+faststart"]
        with imageio.v2.get_writer(
            path, format="FFMPEG", fps=fps, codec="libx264", macro_block_size=1, output_params=flags
        ) as writer:
            for k in play_order(len(frames), loop):
                frame = np.pad(frames[k], padding, mode="edge")
                writer.append_data(frame.repeat(3, -1) if frame.shape[-1] == 1 else frame)  # type: ignore[attr-defined]
        return path.read_bytes()


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Packs files, by name, into a zip in that order; equal files give equal bytes."""
    stream = io.BytesIO()
    write_zip(files, stream)
    return stream.getvalue()
