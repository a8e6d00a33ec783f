"""LZW compression of palette indices for GIF, by Pillow; no torch.

Pillow's encoder is private. Reaching it directly takes a quarter of the time of Pillow's public writer for small
frames, so it is used as long as it gives the same bytes; otherwise the public writer takes its place.
"""

import io
import logging
from functools import cache

from PIL import Image

log = logging.getLogger(__name__)

_BITS = 8
"""Size of an index in bits."""
_CODE_SIZE = bytes((_BITS,))
_EXTENSION = 0x21


def compress(film: Image.Image, top: int, height: int) -> bytes:
    """Compresses some rows of indices.

    Args:
        film: Indices as a picture of mode L. It may hold several frames below each other.
        top: The first row.
        height: Number of rows.

    Returns:
        The image data of a GIF: minimum code size, blocks of LZW codes, terminator.
    """
    return _compress_directly(film, top, height) if has_fast_encoder() else _compress_by_saving(film, top, height)


@cache
def has_fast_encoder() -> bool:
    """Returns True if Pillow's private encoder is there and gives the same bytes as the public writer."""
    film = Image.frombytes("L", (20, 30), bytes(k * k % 251 for k in range(600)))
    try:
        if _compress_directly(film, 10, 15) == _compress_by_saving(film, 10, 15):
            return True
    except Exception:  # A changed interface may raise anything, and the public writer does not need it.
        log.debug("Pillow's private GIF encoder failed", exc_info=True)
    log.warning("Pillow's private GIF encoder has changed; GIFs are made by its public writer, which is slower")
    return False


def _compress_directly(film: Image.Image, top: int, height: int) -> bytes:
    encoder = Image._getencoder(film.mode, "gif", ("L",), (_BITS, 0))
    encoder.setimage(film.im, (0, top, film.width, top + height))
    blocks, status = [_CODE_SIZE], 0
    while not status:
        _, status, block = encoder.encode(max(1 << 16, 4 * film.width))
        blocks.append(block)
    if status < 0:
        raise RuntimeError(f"the GIF encoder failed: {status}")
    blocks.append(b"\0")
    return b"".join(blocks)


def _compress_by_saving(film: Image.Image, top: int, height: int) -> bytes:
    """Writes a GIF of the rows by Pillow's public interface, and takes the image data out of it."""
    stream = io.BytesIO()
    rows = film.crop((0, top, film.width, top + height))
    rows.save(stream, "GIF", optimize=False, interlace=False)  # Both would change the indices or their order.
    gif = stream.getvalue()
    at = 13 + _table_bytes(gif[10])
    while gif[at] == _EXTENSION:
        at = _end_of_blocks(gif, at + 2)
    at += 10 + _table_bytes(gif[at + 9])
    return gif[at : _end_of_blocks(gif, at + 1)]


def _table_bytes(flags: int) -> int:
    """Returns the size of the colour table that the flags of a GIF's screen or image announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end_of_blocks(gif: bytes, at: int) -> int:
    """Returns the index behind the terminator of the chain of blocks that begins at `at`."""
    while gif[at]:
        at += 1 + gif[at]
    return at + 1
