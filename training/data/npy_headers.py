"""Reading of .npy headers under a limit; free of torch."""

import io
import math
from typing import IO, Any

import numpy as np

MAX_HEADER_BYTES = 10_000
"""NumPy's own limit, which it checks only after it has read as many bytes as the file declares, up to 4 GB."""
_MAX_AXES = 32


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Reads the header of a .npy file, up to the numbers.

    Args:
        file: The file, at its beginning.

    Returns:
        The shape, whether the array is in Fortran order, and the type.

    Raises:
        ValueError, SyntaxError, TypeError, tokenize.TokenError: The header is damaged.
        ValueError: The header is too long, or the shape is impossible.
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
        raise ValueError("a shape that no array can have")
    return tuple(map(int, shape)), fortran_order, dtype
