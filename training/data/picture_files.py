"""Packing of picture files, from a folder or a zip, decoded by several threads; free of torch."""

import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.file_trees import Files, open_folder, open_zip
from training.data.frame_files import preprocessed
from training.data.images import (
    ImageError,
    Preprocessing,
    has_picture_suffix,
    is_coloured,
    load_image,
    looks_like_picture,
)
from training.data.layouts.layout import Layout, ListError
from training.data.layouts.many_pictures import file_of, is_smallnorb, key_of
from training.data.layouts.recognition import read_layout
from training.data.pack_writer import PackWriter
from training.data.packs import PackInfo
from training.data.sources import VIDEO_SUFFIXES, DatasetError, ImageFolder, Limits, OnProgress, ZipFile, suffix_of

_CHUNK = 64
_CHUNK_BYTES = 16 * 2**20
_NUM_PEEKS = 64
_NUM_COLOUR_PEEKS = 32
_MAX_LIST_BYTES = 256 * 2**20


def pack_pictures(
    source: ImageFolder | ZipFile,
    target: Path,
    preprocessing: Preprocessing,
    *,
    name: str,
    limits: Limits,
    num_workers: int,
    on_progress: OnProgress,
    source_fingerprint: str,
) -> PackInfo:
    """Decodes every picture of a folder or zip into a pack.

    Args:
        source: The folder or zip, and how its labels are read.
        target: Folder of the pack, which is replaced.
        preprocessing: Size, channels and crop of the packed pictures.
        name: Name of the pack, for people.
        limits: Bounds on files, bytes and pixels.
        num_workers: Threads that decode.
        on_progress: Called with (done, total) files after each chunk.
        source_fingerprint: Stored in the pack, to detect later that the source has changed.

    Returns:
        The description of the pack.

    Raises:
        DatasetError: The source cannot be read, holds no picture, or its labels are broken.
    """
    with _opened(source, limits) as files, PackWriter(target, preprocessing) as writer:
        layout = read_layout(files.names(), lambda n: _read_list(files, n), layout=source.layout, split=source.split)
        for unusable, reason in layout.unusable:
            writer.reject(unusable, "bad_labels", reason)
        for refused in files.refused:
            writer.reject(*refused)
        for other in layout.unlabelled:
            writer.reject(other, "no_label", f"not one of the {layout.kind} set's pictures")
        kept: list[str] = []
        decoded = (
            _decode_all(files, layout.names, preprocessing, limits, num_workers)
            if layout.frames is None
            else _decode_frames(files, layout, preprocessing, limits, source.stride)
        )
        for images, good, bad in decoded:
            for file, error in bad:
                writer.reject(file, error.code, error.message)
            if good:
                writer.add(images)
                kept += good
            num_files = len({file_of(key) for key in kept}) if layout.frames else len(kept)
            on_progress(
                num_files + writer.num_rejected - len(layout.unusable),
                len(layout.names) + len(files.refused) + len(layout.unlabelled),
            )
        if not kept:
            raise DatasetError("no_images", _no_images(source.path, writer))
        labels = layout.label(kept)
        return writer.finish(
            name=name,
            kind=layout.kind,
            source=str(source.path),
            source_fingerprint=source_fingerprint,
            **vars(labels),
        )


def _opened(source: ImageFolder | ZipFile, limits: Limits, *, is_sample: bool = False) -> AbstractContextManager[Files]:
    if isinstance(source, ImageFolder):
        return open_folder(source.path, limits)
    return open_zip(source.path, limits, is_sample=is_sample)


def check_folder(folder: Path, limits: Limits) -> None:
    """Refuses a folder without pictures, by the same check as check_zip.

    Raises:
        DatasetError: The folder cannot be opened, or no_images.
    """
    with open_folder(folder, limits) as files:
        _check_sample(files, folder)


def check_zip(path: Path, limits: Limits, *, name: str | None = None) -> None:
    """Refuses an archive without pictures, judged by the first bytes of at most 64 files.

    A zip passes if only packing can tell whether it holds a picture.

    Args:
        path: The zip, tar or video.
        limits: Bounds on files and bytes.
        name: Name whose suffix tells the kind (default: the path's).

    Raises:
        DatasetError: The zip cannot be opened, or no_images.
    """
    with open_zip(path, limits, is_sample=True, name=name) as files:
        _check_sample(files, path)


def count_images(source: ImageFolder | ZipFile, limits: Limits) -> int:
    """Returns the number of files whose names have the suffix of a picture; of a compressed tar, in its beginning.

    Raises:
        DatasetError: The folder or zip cannot be opened, or its files hold many pictures each.
    """
    with _opened(source, limits, is_sample=True) as files:
        names = files.names()
        if _hold_many(files, names):
            raise DatasetError("no_images", f"{source.path.name}: the number of frames is known after packing")
        return sum(map(has_picture_suffix, names))


def has_colour(source: ImageFolder | ZipFile, limits: Limits) -> bool:
    """Returns True if any of at most 32 pictures that are spread over a folder or zip shows a colour.

    Raises:
        DatasetError: The folder or zip cannot be opened.
    """
    with _opened(source, limits, is_sample=True) as files:
        names = files.names()
        if _hold_many(files, names):
            return not is_smallnorb(names)
    as_seen = Preprocessing(num_channels=3, crop="none")
    return any(is_coloured(pixels) for pixels in _peek(source, as_seen, _NUM_COLOUR_PEEKS, limits))


def sample_pictures(
    source: ImageFolder | ZipFile, preprocessing: Preprocessing, count: int, limits: Limits
) -> NDArray[np.uint8]:
    """Returns a few pictures that are spread over a folder or zip; those that cannot be read are left out.

    Args:
        source: The folder or zip.
        preprocessing: Size, channels and crop.
        count: Largest number of pictures.
        limits: Bounds on files, bytes and pixels.

    Returns:
        (n, H, W, C) uint8.

    Raises:
        DatasetError: The folder or zip cannot be opened, or none of these files is a picture (no_images).
    """
    pictures = list(_peek(source, preprocessing, count, limits))
    if not pictures:
        raise DatasetError("no_images", f"{source.path.name}: none of the files that were looked at is a picture")
    return np.stack(pictures)


def _peek(
    source: ImageFolder | ZipFile, preprocessing: Preprocessing, count: int, limits: Limits
) -> Iterator[NDArray[np.uint8]]:
    """Yields those of at most `count` files, spread over a folder or zip, that can be read; packing reports the others.

    Raises:
        DatasetError: The folder or zip cannot be opened.
    """
    with _opened(source, limits, is_sample=True) as files:
        for name in _spread(sorted(_candidates(files.names())), count):
            with suppress(ImageError):
                data = files.read(name, limits.max_file_bytes)
                yield load_image(data, preprocessing, max_bytes=limits.max_file_bytes, max_pixels=limits.max_pixels)


def _candidates(names: list[str]) -> list[str]:
    """Returns the names with a picture's suffix, or all names if none has one."""
    return [name for name in names if has_picture_suffix(name)] or names


def _spread(names: list[str], count: int) -> list[str]:
    """Returns at most `count` of the names, at equal distances."""
    return names[:: max(1, -(-len(names) // count))]


def _check_sample(files: Files, path: Path) -> None:
    names = files.names()
    candidates = _candidates(names)
    sample = _spread(candidates, _NUM_PEEKS)
    if any(looks_like_picture(head := files.head(name)) or _may_hold_many(name, head) for name in sample):
        return
    if not names and files.refused:
        refused, _, reason = files.refused[0]
        raise DatasetError("no_images", f"{path.name}: no file can be read; {_shown(refused)}: {reason}")
    if not names:
        raise DatasetError("no_images", f"{path.name}: there are no files")
    # Files that were not read may be pictures.
    if len(sample) == len(candidates):
        first = _shown(sample[0])
        raise DatasetError("no_images", f"{path.name}: none of {len(names)} files is a picture; the first is {first}")


def _hold_many(files: Files, names: list[str]) -> bool:
    """Returns True if the files of a set hold many pictures each."""
    if any(map(has_picture_suffix, names)):
        return False
    return any(_may_hold_many(name, files.head(name)) for name in names[:_NUM_PEEKS])


def _may_hold_many(name: str, head: bytes) -> bool:
    """Returns True for a file of a layout whose files hold many pictures, judged by name and first bytes."""
    if suffix_of(name) in VIDEO_SUFFIXES:
        return not head.lstrip().startswith((b"<", b"#"))
    return head.startswith(b"MATLAB 5") or (name.lower().startswith("smallnorb") or "/smallnorb" in name.lower())


def _read_list(files: Files, name: str) -> bytes:
    try:
        return files.read(name, _MAX_LIST_BYTES)
    except ImageError as error:
        raise ListError(error.message) from error


Decoded = tuple[NDArray[np.uint8], list[str], list[tuple[str, ImageError]]]


def _decode_all(
    files: Files, names: Sequence[str], preprocessing: Preprocessing, limits: Limits, num_workers: int
) -> Iterator[Decoded]:
    """Decodes pictures in chunks, in order, with several threads; at most four chunks a thread are held in memory.

    Yields:
        The pictures (n, H, W, C) uint8 of a chunk, their names, and the names of the others with the error of each.
    """

    def decode(chunk: Sequence[str]) -> Decoded:
        images, good, bad = [], [], []
        for name in chunk:
            try:
                data = files.read(name, limits.max_file_bytes)
                images.append(
                    load_image(data, preprocessing, max_bytes=limits.max_file_bytes, max_pixels=limits.max_pixels)
                )
                good.append(name)
            except ImageError as error:
                bad.append((name, error))
        return np.stack(images) if images else np.empty(0, np.uint8), good, bad

    size = _chunk_size(preprocessing)
    chunks = (names[i : i + size] for i in range(0, len(names), size))
    pending: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(num_workers, thread_name_prefix="decode") as pool:
        try:
            for chunk in chunks:
                pending.append(pool.submit(decode, chunk))
                if len(pending) >= 4 * num_workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _decode_frames(
    files: Files, layout: Layout, preprocessing: Preprocessing, limits: Limits, stride: int
) -> Iterator[Decoded]:
    """Reads files of many pictures, like _decode_all; the pictures before a file's damage are kept.

    Raises:
        DatasetError: too_many_files if there are more pictures than files may be.
    """
    assert layout.frames is not None
    size, total = _chunk_size(preprocessing), 0
    for name in layout.names:
        images, good = [], []
        try:
            for number, frame in enumerate(layout.frames(files, name, limits)):
                if number % stride:
                    continue
                images.append(preprocessed(frame, preprocessing))
                good.append(key_of(name, number))
                total += 1
                if len(images) == size:
                    yield np.stack(images), good, []
                    images, good = [], []
                if total > limits.max_files:
                    raise DatasetError("too_many_files", f"more than {limits.max_files} frames; choose a larger stride")
        except ImageError as error:
            yield np.empty(0, np.uint8), [], [(name, error)]
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            yield np.empty(0, np.uint8), [], [(name, ImageError("unreadable", f"cannot be unpacked: {error}"))]
        if images:
            yield np.stack(images), good, []


def _chunk_size(preprocessing: Preprocessing) -> int:
    """Returns the number of pictures in a chunk: 64, or as many preprocessed ones as fit into 16 MiB."""
    row_bytes = preprocessing.image_size**2 * preprocessing.num_channels
    return min(_CHUNK, max(1, _CHUNK_BYTES // row_bytes))


def _no_images(path: Path, writer: PackWriter) -> str:
    rejected = [file for file in writer.rejected if file.code != "bad_labels"]
    if not rejected:
        return f"{path.name}: there are no files"
    first, count = rejected[0], writer.num_rejected - len(writer.rejected) + len(rejected)
    return f"{path.name}: none of {count} files is a readable picture; {_shown(first.file)}: {first.reason}"


def _shown(name: str) -> str:
    """Returns a file's name for a message, with bytes that are not UTF-8 escaped."""
    return name.encode("utf-8", "backslashreplace").decode()
