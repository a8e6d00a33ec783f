"""Foreign files, read in processes that may die: pictures in a small pool that stays warm, the rest in one of its own.

Free of torch.
"""

import threading
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.info import Preprocessing
from training.data.datasets import ArrayFile, BuiltIn, DatasetError, Limits, Source, num_channels_of
from training.data.decoding import MAX_DECODING_BYTES, DecodingBudget
from training.data.images import ImageError
from worker.stores.children import ParserDied, ParsingChild
from worker.stores.parsing import source_to_json

NUM_DECODERS = 2
"""Pictures decoded at once, each in a process of its own."""
PICTURE_SECONDS = 30.0
"""Wall time of one picture; 50 million pixels take 2 s on a machine that does nothing else."""
PICTURE_CPU_SECONDS = 10
_PICTURE_BYTES = MAX_DECODING_BYTES + 192 * 2**20
"""Address space of one picture: its decoding, the upload twice, and what the libraries map."""
INSPECTION_SECONDS = 120.0
"""Wall time of looking into one archive; a zip of 500 000 files takes 9 s of the processor and 320 MiB."""
INSPECTION_CPU_SECONDS = 40
_INSPECTION_BYTES = 768 * 2**20

_inspecting = threading.Lock()
"""One archive at a time is looked into."""


class ParsingPool:
    """Children that decode pictures. They start when they are first needed, and stay."""

    def __init__(self, num_children: int = NUM_DECODERS, *, seconds: float = PICTURE_SECONDS) -> None:
        self._places = threading.BoundedSemaphore(num_children)
        self._budget = DecodingBudget(MAX_DECODING_BYTES)
        self._idle: list[ParsingChild] = []
        self._lock = threading.Lock()
        self._seconds = seconds

    @property
    def idle_pids(self) -> list[int]:
        """Process ids of the children that wait for a picture."""
        return [child.pid for child in self._idle]

    def load_image(self, data: bytes, preprocessing: Preprocessing, *, max_pixels: int) -> NDArray[np.uint8]:
        """As training.data.images.load_image, in a child.

        All pictures that are decoded at the same time share MAX_DECODING_BYTES.

        Raises:
            ImageError: as load_image does; not_an_image when the child died of the picture.
        """
        request = {
            "task": "picture",
            "preprocessing": asdict(preprocessing),
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
        """Ends the children that wait."""
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
    """As training.data.datasets.num_channels_of, in a child where the source is foreign.

    Raises:
        DatasetError: as num_channels_of does; parser_died when the child died of the file.
    """
    if isinstance(source, BuiltIn):
        return num_channels_of(source, limits)
    if isinstance(source, ArrayFile) and not source.path.is_file():
        raise DatasetError("not_found", f"{source.path}: no such file")
    # The API's image does without it: that needs no child to be found out.
    if source.path.suffix.lower() in (".h5", ".hdf5") and find_spec("h5py") is None:
        raise DatasetError("needs_h5py", "HDF5 files need the package h5py")
    answer = _inspect(source.path, {"task": "channels", "source": source_to_json(source), "limits": asdict(limits)})
    return int(answer["num_channels"])


def check_zip_in_child(path: Path, limits: Limits) -> None:
    """As training.data.picture_files.check_zip, in a child. Raises DatasetError; parser_died where the child died."""
    _inspect(path, {"task": "zip", "path": path, "limits": asdict(limits)})


def _inspect(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of a child that reads this file alone: what a damaged one leaves behind harms no other."""
    request |= {"memory_bytes": _INSPECTION_BYTES, "cpu_seconds": INSPECTION_CPU_SECONDS}
    with _inspecting:
        child = ParsingChild()
        try:
            head, _ = child.ask(request, seconds=INSPECTION_SECONDS)
        except ParserDied as died:
            raise DatasetError("parser_died", f"{path.name}: {died}; the file is damaged or made to do so") from died
        finally:
            child.close()
    if "code" in head:
        code = "unsupported_array" if head["code"] == "memory" else head["code"]
        raise DatasetError(code, head["message"] if head["code"] != "memory" else f"{path.name}: {head['message']}")
    return head
