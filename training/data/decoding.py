"""What decoding a picture will cost, told by its header: memory by format and mode, work by the scans of a JPEG.

Free of torch.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

MAX_DECODING_BYTES = 512 * 2**20
"""Memory that one picture may take while it is decoded: 50 million pixels in the usual formats."""
MAX_SCANS = 100
"""Scans of a JPEG. A progressive one has about 10; each goes over the whole picture, whatever its few bytes say."""

_BYTES_PER_PIXEL = {"1": 2.5, "L": 2.5, "P": 6.5, "LA": 9, "RGB": 7.5, "I;16": 4.5, "I;16B": 4.5, "I": 17, "F": 17}
"""Peak of decoding, turning and bringing to 8 bits by mode, in the dearest of the formats (a TIFF of one strip);
measured, `tests/training/data/test_hostile_pictures.py` does so again."""
_OTHER_BYTES_PER_PIXEL = 10
_WEBP_BYTES_PER_PIXEL = 21
"""Pillow decodes a WebP as an animation: two canvases, a copy of the frame, and the picture, each of 4 bytes."""
_TIFF_RGBA_BYTES_PER_PIXEL = 14
_STRIP_PIXELS = 2**20
_STRIP_BYTES_PER_PIXEL = 8
"""Alpha is laid over white on strips of so many pixels; what that takes beyond the picture does not grow with it."""
_REDUCED_BYTES_PER_PIXEL = 8
_COEFFICIENT_BYTES = 2

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker of a JPEG; in a scan's bits, 0xFF is followed by 0, or by one of eight marks of a restart."""
_START_OF_SCAN, _START_OF_IMAGE, _END_OF_IMAGE, _TEMPORARY = 0xDA, 0xD8, 0xD9, 0x01


def decoding_bytes(image: Image.Image, full_size: tuple[int, int], num_scans: int) -> int:
    """Memory that decoding an opened picture takes at its peak, rounded up.

    Args:
        image: Opened, with the size that is decoded (a JPEG's draft is smaller than the picture).
        full_size: Width and height in the file.
        num_scans: Of a JPEG; with more than one, the coefficients of the whole picture are held.
    """
    num_pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        is_buffered = num_scans > 1 or "progression" in image.info
        # A draft may have left one of three components to the picture; the decoder reads them all.
        coefficients = full_size[0] * full_size[1] * getattr(image, "layers", 4) * _COEFFICIENT_BYTES
        return num_pixels * _REDUCED_BYTES_PER_PIXEL + is_buffered * coefficients
    if image.format == "WEBP":
        return num_pixels * _WEBP_BYTES_PER_PIXEL
    strip_bytes = min(num_pixels, _STRIP_PIXELS) * _STRIP_BYTES_PER_PIXEL if image.mode in ("RGBA", "LA") else 0
    if image.format == "TIFF" and image.mode == "RGBA":
        return num_pixels * _TIFF_RGBA_BYTES_PER_PIXEL + strip_bytes
    return int(num_pixels * _BYTES_PER_PIXEL.get(image.mode, _OTHER_BYTES_PER_PIXEL)) + strip_bytes


def count_scans(data: bytes) -> int:
    """Number of scans of the first picture in the bytes of a JPEG; counting ends above MAX_SCANS."""
    count, at = 0, 2
    while count <= MAX_SCANS and (found := _MARKER.search(data, at)):
        at, marker = found.end(), data[found.end() - 1]
        if marker == _END_OF_IMAGE:
            break
        if marker in (_START_OF_IMAGE, _TEMPORARY):
            continue
        count += marker == _START_OF_SCAN
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return count


class DecodingBudget:
    """Memory that the pictures decoded at the same time share."""

    def __init__(self, num_bytes: int) -> None:
        self._free = self._num_bytes = num_bytes
        self._changed = threading.Condition()

    @contextmanager
    def take(self, num_bytes: int) -> Iterator[None]:
        """Waits until so much is free, or all of it for a picture that needs more, and holds it for the block."""
        taken = min(num_bytes, self._num_bytes)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        try:
            yield
        finally:
            with self._changed:
                self._free += taken
                self._changed.notify_all()
