"""Arrays of a file that are read on demand, and their roles; free of torch."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """One array of a file, which is read only on demand."""

    shape: tuple[int, ...]
    """The shape (N, …) as stored, after the leading axes of a factor grid are folded into N."""
    dtype: np.dtype[Any]
    read: Callable[[Iterable[range]], Iterator[NDArray[Any]]]
    """Yields the rows of each of the given ranges, which must ascend."""
    grid: tuple[int, ...] = ()
    """The sizes of the axes that were folded into N."""
    transposed: bool = False
    """True if the array was saved in Fortran order: it is the transpose of what `read` yields."""
    chunks: tuple[int, ...] = ()
    """The shape of the pieces that are decompressed as a whole; empty if there are none."""
    is_stream: bool = False
    """True if reading a row decompresses everything before it."""

    @property
    def row_bytes(self) -> int:
        """The size of one row in bytes."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int:
        """The number of rows that one chunk spans."""
        return self.chunks[0] if self.chunks else 1

    @property
    def row_chunks(self) -> int:
        """The number of chunks that one row touches."""
        return math.prod(-(-n // part) for n, part in zip(self.shape[1:], self.chunks[1:], strict=False))


@dataclass(frozen=True, kw_only=True)
class ArrayContents:
    """The arrays of a file that packing can use."""

    pictures: StoredArray
    """The pictures, (N, H, W[, C]) or (N, C, H, W)."""
    labels: Mapping[str, Callable[[], StoredArray]] = field(default_factory=dict)
    """The arrays that have a usual name for labels, by key."""
    unused: Sequence[str] = ()
    """The keys of other arrays with a row for each picture."""
    split: NDArray[np.uint8] | None = None
    """(N,) 0 train, 1 validation, 2 test, if the file has an array of pictures for each."""
