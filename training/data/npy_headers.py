"""Headers of .npy files from strangers, read under a limit; free of torch."""

import io
import math
from typing import IO, Any

import numpy as np

MAX_HEADER_BYTES = 10_000
"""numpy's own limit. It looks at it only after it has read as many bytes as the file says, up to 4 GB."""
_MAX_AXES = 32


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Reads the header of a .npy file; the numbers follow.

    Returns:
        Shape, whether in Fortran order, and type.

    Raises:
        ValueError, SyntaxError, TypeError, tokenize.TokenError: for a damaged header; ValueError for one that is too
            long, or whose shape is none.
    """
    version = np.lib.format.read_magic(file)
    prefix = file.read(2 if version == (1, 0) else 4)
    num_bytes = int.from_bytes(prefix, "little")
    if num_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {num_bytes} bytes")
    header = io.BytesIO(prefix + file.read(num_bytes))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(header)
    if len(shape) > _MAX_AXES or any(length < 0 for length in shape) or math.prod(shape) >= 2**63:
        raise ValueError("a shape that no array has")
    return tuple(map(int, shape)), fortran_order, dtype
