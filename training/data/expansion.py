"""How much a small file may unpack to, judged by what it declares before anything is read; free of torch."""

from training.data.sources import Limits

_MAX_DEFLATE = 1032
"""Bytes that Deflate makes of one at most, as of a blank BMP."""
_MODEST_BYTES = 16 * 2**30
"""Takes half a minute to unpack, entry by entry and never to the disk."""


def is_bomb(total_bytes: int, file_bytes: int, limits: Limits) -> bool:
    """Whether a file declares to hold far more than its size, and more than is modest or than Deflate can make of it.

    Args:
        total_bytes: What all of it unpacks to.
        file_bytes: Size of the file.
        limits: max_expansion is read.
    """
    modest = total_bytes <= min(_MODEST_BYTES, _MAX_DEFLATE * file_bytes)
    return not modest and total_bytes > limits.max_expansion * file_bytes + 2**30
