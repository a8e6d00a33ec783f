"""Reading of foreign files in child processes that may die. This module loads no torch.

A small pool of warm children decodes pictures; every other file gets a child of its own.
"""

import threading
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.info import Preprocessing
from training.data.datasets import (
    ArrayFile,
    BuiltIn,
    DatasetError,
    ImageFolder,
    Limits,
    Source,
    ZipFile,
    count_images,
    num_channels_of,
    sample_of,
)
from training.data.decoding import MAX_DECODING_BYTES, DecodingBudget, ImageError
from worker.stores.children import ParserDied, ParsingChild
from worker.stores.parsing import source_to_json

NUM_DECODERS = 2
"""Pictures that are decoded at once, each in its own process."""
PICTURE_SECONDS = 30.0
"""Wall time for one picture; 50 million pixels take 2 s on an idle machine."""
PICTURE_CPU_SECONDS = 10
"""Processor time for one picture."""
_PICTURE_BYTES = MAX_DECODING_BYTES + 192 * 2**20
"""Address space for one picture: its decoding, two copies of the upload, and what the libraries map."""
INSPECTION_SECONDS = 120.0
"""Wall time for inspecting one archive; a zip of 500 000 files takes 9 s of processor time and 320 MiB."""
INSPECTION_CPU_SECONDS = 40
"""Processor time for inspecting one archive."""
_INSPECTION_BYTES = 768 * 2**20

COUNTING_SECONDS = 15.0
"""Wall time for counting the pictures of a set, for which a request waits; 100 000 files take about one second."""

_MAX_COUNTS = 8
"""Requests that count or wait for it; further ones do without the number."""

_counting = threading.BoundedSemaphore(NUM_DECODERS)
_to_count = threading.BoundedSemaphore(_MAX_COUNTS)
_inspecting = threading.Lock()
"""Held while an archive is inspected, so that this happens to one at a time."""


class ParsingPool:
    """Children that decode pictures. They start when they are first needed and stay alive."""

    def __init__(self, num_children: int = NUM_DECODERS, *, seconds: float = PICTURE_SECONDS) -> None:
        self._places = threading.BoundedSemaphore(num_children)
        self._budget = DecodingBudget(MAX_DECODING_BYTES)
        self._idle: list[ParsingChild] = []
        self._lock = threading.Lock()
        self._seconds = seconds

    @property
    def idle_pids(self) -> list[int]:
        """Process ids of the idle children."""
        return [child.pid for child in self._idle]

    def load_image(self, data: bytes, preprocessing: Preprocessing, *, max_pixels: int) -> NDArray[np.uint8]:
        """Decodes, crops and resizes a picture, like training.data.images.load_image, in a child.

        All pictures that are decoded at the same time share MAX_DECODING_BYTES.

        Args:
            data: The file.
            preprocessing: Size, channels and crop.
            max_pixels: Limit on width times height as the file declares them.

        Returns:
            (H, W, C) uint8.

        Raises:
            ImageError: The picture cannot be used; not_an_image if the child died while it read the picture.
        """
        request = {
            "task": "picture",
            "preprocessing": preprocessing.model_dump(),
            "max_pixels": max_pixels,
            "memory_bytes": _PICTURE_BYTES,
            "cpu_seconds": PICTURE_CPU_SECONDS,
        }
        with self._places:
            child = self._take()
            try:
                head, body = child.ask(request, data, seconds=self._seconds)
                if "cost" in head:
                    with self._budget.take(head["cost"]):
                        head, body = child.ask({}, seconds=self._seconds)
            except ParserDied as died:
                raise ImageError("not_an_image", f"the file cannot be decoded: {died}") from died
            with self._lock:
                self._idle.append(child)
        if "code" in head:
            code = "image_too_large" if head["code"] == "memory" else head["code"]
            raise ImageError(code, head["message"])
        return np.frombuffer(body, np.uint8).reshape(head["shape"])

    def close(self) -> None:
        """Ends the idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.close()

    def _take(self) -> ParsingChild:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.is_alive:
                    return child
                child.close()
        return ParsingChild()


def num_channels_in_child(source: Source, limits: Limits) -> int:
    """Finds the number of channels, like training.data.datasets.num_channels_of, in a child if the source is foreign.

    Args:
        source: Where the pictures come from.
        limits: Bounds on files, bytes and pixels.

    Returns:
        3 if the pictures have colours, otherwise 1.

    Raises:
        DatasetError: The source cannot be read; parser_died if the child died while it read the file.
    """
    if isinstance(source, BuiltIn):
        return num_channels_of(source, limits)
    _check_readable(source)
    answer, _ = _inspect(source.path, {"task": "channels", "source": source_to_json(source), "limits": asdict(limits)})
    return int(answer["num_channels"])


def sample_in_child(source: Source, preprocessing: Preprocessing, count: int, limits: Limits) -> NDArray[np.uint8]:
    """Returns a few pictures, like training.data.datasets.sample_of, from a child if the source is foreign.

    Args:
        source: Where the pictures come from.
        preprocessing: Size, channels and crop.
        count: Largest number of pictures.
        limits: Bounds on files, bytes and pixels.

    Returns:
        (n, H, W, C) uint8, with n at least 1.

    Raises:
        DatasetError: The source cannot be read; parser_died if the child died while it read the file.
    """
    if isinstance(source, BuiltIn):
        return sample_of(source, preprocessing, count, limits)
    _check_readable(source)
    request = {"task": "sample", "source": source_to_json(source), "limits": asdict(limits), "count": count}
    head, body = _inspect(source.path, {**request, "preprocessing": preprocessing.model_dump()})
    return np.frombuffer(body, np.uint8).reshape(head["shape"])


def _check_readable(source: ArrayFile | ImageFolder | ZipFile) -> None:
    """Refuses what no child needs to look at: files that are gone, and those that a missing package would read.

    Raises:
        DatasetError: not_found or needs_h5py.
    """
    if isinstance(source, ArrayFile) and not source.path.is_file():
        raise DatasetError("not_found", f"{source.path}: no such file")
    # The API's image does without h5py; no child is needed to find that out.
    if source.path.suffix.lower() in (".h5", ".hdf5") and find_spec("h5py") is None:
        raise DatasetError("needs_h5py", "HDF5 files need the package h5py")


def count_images_in_child(source: Source, limits: Limits) -> int | None:
    """Counts the pictures of a source by names and headers, in a child if the source is foreign.

    Args:
        source: Where the pictures come from.
        limits: Bounds on files, bytes and pixels.

    Returns:
        About the number of pictures; None if counting failed or took more than COUNTING_SECONDS.
    """
    if isinstance(source, BuiltIn):
        return count_images(source, limits)
    request = {
        "task": "count",
        "source": source_to_json(source),
        "limits": asdict(limits),
        "memory_bytes": _INSPECTION_BYTES,
        "cpu_seconds": INSPECTION_CPU_SECONDS,
    }
    if not _to_count.acquire(blocking=False):
        return None
    try:
        if not _counting.acquire(timeout=COUNTING_SECONDS):
            return None
        child = ParsingChild()
        try:
            head, _ = child.ask(request, seconds=COUNTING_SECONDS)
            return head.get("num_images")
        except ParserDied:
            return None
        finally:
            child.close()
            _counting.release()
    finally:
        _to_count.release()


def check_zip_in_child(path: Path, limits: Limits, *, name: str | None = None) -> None:
    """Refuses a zip without pictures, like training.data.picture_files.check_zip, in a child.

    Args:
        path: The zip, tar or video.
        limits: Bounds on files, bytes and pixels.
        name: Name whose suffix tells the kind (default: the path's).

    Raises:
        DatasetError: The zip is refused; parser_died if the child died while it read the zip.
    """
    _inspect(path, {"task": "zip", "path": path, "limits": asdict(limits), "name": name})


def _inspect(path: Path, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Returns the answer of a child that reads only this file, so that a damaged file affects no other: head, body."""
    request |= {"memory_bytes": _INSPECTION_BYTES, "cpu_seconds": INSPECTION_CPU_SECONDS}
    with _inspecting:
        child = ParsingChild()
        try:
            head, body = child.ask(request, seconds=INSPECTION_SECONDS)
        except ParserDied as died:
            raise DatasetError("parser_died", f"{path.name}: {died}; the file is damaged or hostile") from died
        finally:
            child.close()
    if "code" in head:
        code = "unsupported_array" if head["code"] == "memory" else head["code"]
        raise DatasetError(code, head["message"] if head["code"] != "memory" else f"{path.name}: {head['message']}")
    return head, body
