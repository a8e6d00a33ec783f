"""A bound on what a small file may unpack to, judged by what it declares before anything is read; free of torch."""

from training.data.sources import Limits

_MAX_DEFLATE = 1032
"""The most bytes that Deflate makes of one, for instance of a blank BMP."""
_MODEST_BYTES = 16 * 2**30
"""Size that is unpacked in half a minute, entry by entry and never to the disk."""


def is_bomb(total_bytes: int, file_bytes: int, limits: Limits) -> bool:
    """Returns True if a file declares a content that is out of proportion to its size.

    A content that Deflate can make of that size is accepted up to 16 GiB.

    Args:
        total_bytes: Declared size of everything in the file.
        file_bytes: Size of the file.
        limits: Holds the largest ratio of the two.
    """
    return total_bytes > most_bytes(file_bytes, limits)


def most_bytes(file_bytes: int, limits: Limits) -> int:
    """Returns the largest content that is accepted of a file, in bytes."""
    return max(min(_MODEST_BYTES, _MAX_DEFLATE * file_bytes), limits.max_expansion * file_bytes + 2**30)
