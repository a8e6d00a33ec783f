"""Files of many pictures: videos, animations, and the matrices of Cars3D and SmallNORB; free of torch.

Nothing is trusted: sizes are checked before pixels are read, a matrix is unpacked only as far as it may be long, and
ffmpeg, a process of its own, opens no other file and only containers of videos.
"""

import io
import math
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from gzip import GzipFile
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.file_trees import Files
from training.data.images import ImageError, Preprocessing, preprocess
from training.data.sources import ANIMATION_SUFFIXES, Limits

_FFMPEG_INPUT = ["-protocol_whitelist", "file", "-format_whitelist", "mov,avi,matroska,mpeg,mpegts,ogg,flv,asf"]
"""Options under which a video cannot refer to other files or addresses, as a playlist would."""
_COPY_BYTES = 2**20
_CUBE_BYTES = 2**26
"""Longest array of a .mat file; one car of Cars3D has 4.7 MB."""
_BYTES, _INT32 = 0x1E3D4C55, 0x1E3D4C54
"""Signatures of SmallNORB's matrices."""
_MAX_AXES = 8

Frames = Iterator[NDArray[np.uint8]]
"""Pictures of one file in their order, each (H, W) or (H, W, C) uint8."""


def read_frames(files: Files, name: str, limits: Limits) -> Frames:
    """Yields every frame of a video or an animation, upright.

    Args:
        files: The files of the set.
        name: The video, or a GIF, WebP or PNG.
        limits: Bounds on the pixels of a frame.

    Raises:
        ImageError: The file cannot be read to its end, or a frame is too large; unsupported_image without imageio.
    """
    if PurePosixPath(name).suffix.lower() in ANIMATION_SUFFIXES:
        yield from _animation(files.read(name, limits.max_file_bytes), limits)
        return
    with _on_disk(files, name) as path:
        yield from _video(path, limits)


def _animation(data: bytes, limits: Limits) -> Frames:
    try:
        image = Image.open(io.BytesIO(data), formats=("GIF", "WEBP", "PNG"))
        _check_size(*image.size, limits)
        for number in range(limits.max_files):
            try:
                image.seek(number)
            except EOFError:
                return
            frame = image.convert("RGBA")
            white = Image.new("RGBA", frame.size, (255, 255, 255, 255))
            yield np.asarray(Image.alpha_composite(white, frame).convert("RGB"))
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, struct.error) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("not_an_image", f"the animation is damaged: {error}") from error


def _video(path: Path, limits: Limits) -> Frames:
    try:
        import imageio_ffmpeg  # The API's image does not have it.
    except ImportError as error:
        raise ImageError("unsupported_image", "videos need the package imageio-ffmpeg") from error
    reader = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24", input_params=_FFMPEG_INPUT)
    try:
        width, height = next(reader)["size"]
        _check_size(width, height, limits)
        for frame in reader:
            yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
    except (OSError, RuntimeError, ValueError, KeyError, IndexError, StopIteration) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("not_an_image", "ffmpeg cannot read the video") from error
    finally:
        reader.close()


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError("image_too_large", f"{width}×{height} pixels, the limit is {limits.max_pixels}")


@contextmanager
def _on_disk(files: Files, name: str) -> Iterator[Path]:
    """Yields the path of a file, which is copied from an archive for this time."""
    with files.open(name) as stream:
        if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO):
            yield Path(stream.name)
            return
        with tempfile.NamedTemporaryFile(suffix=PurePosixPath(name).suffix) as copy:
            shutil.copyfileobj(stream, copy, _COPY_BYTES)
            copy.flush()
            yield Path(copy.name)


def read_car(files: Files, name: str, limits: Limits) -> Frames:
    """Yields the 96 pictures of a car of Cars3D, elevation fastest, from the array `im` (H, W, 3, azimuth, elevation).

    Raises:
        ImageError: The file is not such a .mat file.
    """
    try:
        pixels = _mat_array(files.read(name, limits.max_file_bytes))
    except (ValueError, IndexError, struct.error, zlib.error) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("not_an_image", f"not a .mat file of Cars3D: {error}") from error
    if pixels.ndim != 5 or pixels.shape[2] not in (1, 3):
        raise ImageError("not_an_image", f"an array of shape {pixels.shape}, not (H, W, 3, azimuth, elevation)")
    yield from np.moveaxis(pixels, (3, 4), (0, 1)).reshape(-1, *pixels.shape[:3])


def _mat_array(data: bytes) -> NDArray[np.uint8]:
    """Returns the first array of bytes in a MATLAB 5 file; each is unpacked up to _CUBE_BYTES."""
    order = {b"IM": "<", b"MI": ">"}[data[126:128]] if data[126:128] in (b"IM", b"MI") else ""
    if not order:
        raise ValueError("not a MATLAB 5 file")
    at = 128
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}2L", data, at)
        element = data[at + 8 : at + 8 + length]
        if kind == 15:
            unpacked = zlib.decompressobj().decompress(element, _CUBE_BYTES)
            kind, element = struct.unpack_from(f"{order}L", unpacked)[0], unpacked[8:]
        if kind == 14 and (found := _matrix(element, order)) is not None:
            return found
        at += 8 + length
    raise ValueError("it holds no array of bytes")


def _matrix(element: bytes, order: str) -> NDArray[np.uint8] | None:
    """Returns the array of a MATLAB matrix element if it is one of bytes."""
    parts: list[tuple[int, bytes]] = []
    at = 0
    while at + 8 <= len(element) and len(parts) < 4:
        (head,) = struct.unpack_from(f"{order}L", element, at)
        if head >> 16:  # A small element: length and type share the first word.
            parts.append((head & 0xFFFF, element[at + 4 : at + 4 + min(head >> 16, 4)]))
            at += 8
        else:
            (length,) = struct.unpack_from(f"{order}L", element, at + 4)
            parts.append((head, element[at + 8 : at + 8 + length]))
            at += 8 + -(-length // 8) * 8
    if len(parts) < 4 or parts[3][0] != 2:
        return None
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    if len(shape) > _MAX_AXES or min(shape, default=0) < 1 or math.prod(shape) != len(parts[3][1]):
        return None
    return np.frombuffer(parts[3][1], np.uint8).reshape(shape, order="F")


def read_norb(files: Files, name: str, limits: Limits) -> Frames:
    """Yields the pictures of the left camera from a -dat.mat file of SmallNORB, (N, 2, H, W).

    Raises:
        ImageError: The file is not such a matrix, or ends early.
    """
    with files.open(name) as raw, unpacked(raw, name) as stream:
        shape = norb_header(stream, _BYTES)
        if len(shape) != 4 or math.prod(shape[1:]) > limits.max_pixels or shape[0] > limits.max_files:
            raise ImageError("not_an_image", f"a matrix of shape {shape}, not (N, 2, H, W)")
        row = math.prod(shape[1:])
        for _ in range(shape[0]):
            yield _exactly(stream, row).reshape(shape[1:])[0]


def norb_labels(data: bytes, name: str) -> NDArray[np.int32]:
    """Returns the numbers of a -cat.mat or -info.mat file of SmallNORB, (N, F).

    Raises:
        ImageError: The file is not such a matrix, or ends early.
    """
    with unpacked(io.BytesIO(data), name) as stream:
        shape = norb_header(stream, _INT32)
        if 4 * math.prod(shape) > _CUBE_BYTES or not shape:
            raise ImageError("unreadable", f"a matrix of shape {shape}")
        return _exactly(stream, 4 * math.prod(shape)).view("<i4").reshape(shape[0], -1).astype(np.int32)


def norb_header(stream: IO[bytes], signature: int) -> tuple[int, ...]:
    """Reads the header of a matrix of SmallNORB, and returns its shape.

    Raises:
        ImageError: Another file, or another type of numbers.
    """
    found, num_axes = _exactly(stream, 8).view("<u4").tolist()
    if found != signature or not 1 <= num_axes <= _MAX_AXES:
        raise ImageError("not_an_image", "not a matrix of SmallNORB")
    sizes = _exactly(stream, 4 * max(3, num_axes)).view("<i4").tolist()[:num_axes]
    if min(sizes) < 1:
        raise ImageError("not_an_image", f"a matrix of shape {tuple(sizes)}")
    return tuple(sizes)


@contextmanager
def unpacked(raw: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    """Yields a stream, unpacked if its name ends in .gz; damage becomes an ImageError."""
    try:
        if not name.lower().endswith(".gz"):
            yield raw
            return
        with GzipFile(fileobj=raw) as stream:
            yield stream  # type: ignore[misc]
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError("unreadable", f"cannot be unpacked: {error}") from error


def _exactly(stream: IO[bytes], num_bytes: int) -> NDArray[np.uint8]:
    data = stream.read(num_bytes)
    if len(data) < num_bytes:
        raise ImageError("unreadable", "the matrix ends early")
    return np.frombuffer(data, np.uint8)


def preprocessed(frame: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Crops and resizes a frame, (H, W) or (H, W, C), for a model."""
    if frame.ndim == 3 and frame.shape[2] == 1:
        frame = frame[:, :, 0]
    return preprocess(Image.fromarray(np.ascontiguousarray(frame)), preprocessing)
