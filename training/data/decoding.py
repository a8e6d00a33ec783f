"""The cost of decoding a picture, from its header: memory by format and mode, work by the scans of a JPEG.

Free of torch.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

MAX_DECODING_BYTES = 512 * 2**20
"""Memory that decoding one picture may take; 50 million pixels fit in the usual formats."""
MAX_SCANS = 100
"""Most scans of a JPEG. A progressive one has about 10; each passes over the whole picture, however short it is."""

_BYTES_PER_PIXEL = {"1": 2.5, "L": 2.5, "P": 6.5, "LA": 9, "RGB": 7.5, "I;16": 4.5, "I;16B": 4.5, "I": 17, "F": 17}
"""Peak of decoding, turning and converting to 8 bits by mode, in the most expensive format (a TIFF of one strip), as
`tests/training/data/test_hostile_pictures.py` measures it."""
_OTHER_BYTES_PER_PIXEL = 10
_WEBP_BYTES_PER_PIXEL = 21
"""Pillow decodes a WebP as an animation: two canvases, a copy of the frame, and the picture, 4 bytes each."""
_AVIF_BYTES_PER_PIXEL = 24
"""The planes of up to 12 bits with alpha, their 8-bit copy as Pillow reads it, and the picture."""
_TIFF_RGBA_BYTES_PER_PIXEL = 14
_STRIP_PIXELS = 2**20
_STRIP_BYTES_PER_PIXEL = {"RGBA": 8, "LA": 8, "I;16": 17, "I;16B": 17}
"""Alpha is laid over white, and 16 bits become 8, strip by strip, so that the memory for it does not grow with the
picture."""
_REDUCED_BYTES_PER_PIXEL = 8
_COEFFICIENT_BYTES = 2

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""A marker of a JPEG. In the bits of a scan, 0xFF is followed by 0 or by one of the eight restart markers."""
_START_OF_SCAN, _START_OF_IMAGE, _END_OF_IMAGE, _TEMPORARY = 0xDA, 0xD8, 0xD9, 0x01

_PROGRESSIVE = re.compile(rb"\xff\xc2\x00[\x0b\x11\x14]\x08")
"""Frame header of a progressive JPEG with one, three or four components."""


class ImageError(ValueError):
    """A picture that cannot be used."""

    def __init__(self, code: str, message: str) -> None:
        """Takes a stable code and a message for people.

        Args:
            code: not_an_image, image_too_large, unsupported_image or unreadable.
            message: What is wrong with the picture.
        """
        super().__init__(message)
        self.code = code
        self.message = message


def checked_cost(image: Image.Image, full_size: tuple[int, int], data: bytes) -> int:
    """Checks that a picture can be decoded at an acceptable cost.

    Args:
        image: The opened picture, as for decoding_bytes.
        full_size: Width and height in the file.
        data: The bytes of the file.

    Returns:
        Memory in bytes that decoding will take.

    Raises:
        ImageError: image_too_large or unsupported_image.
    """
    num_scans = count_scans(data) if image.format in ("JPEG", "MPO") else 1
    if num_scans > MAX_SCANS:
        raise ImageError("unsupported_image", f"the JPEG has more than {MAX_SCANS} scans; save it as a baseline JPEG")
    if image.format == "TIFF" and image.info.get("compression") == "jpeg" and _PROGRESSIVE.search(data):
        raise ImageError("unsupported_image", "a TIFF of progressive JPEGs is not supported")
    cost = decoding_bytes(image, full_size, num_scans)
    if cost > MAX_DECODING_BYTES:
        raise ImageError(
            "image_too_large",
            f"decoding {full_size[0]}×{full_size[1]} pixels of {image.format} ({image.mode}) takes {cost >> 20} MiB, "
            f"the limit is {MAX_DECODING_BYTES >> 20} MiB; save it smaller, or as a JPEG or PNG of 8 bits",
        )
    return cost


def decoding_bytes(image: Image.Image, full_size: tuple[int, int], num_scans: int) -> int:
    """Returns the peak memory of decoding a picture in bytes, rounded up.

    Args:
        image: The opened picture, with the size that is decoded (a JPEG's draft is smaller than the picture).
        full_size: Width and height in the file.
        num_scans: Number of scans of a JPEG; with more than one, the coefficients of the whole picture are held.
    """
    num_pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        is_buffered = num_scans > 1 or "progression" in image.info
        # A draft may have reduced the picture to one of three components; the decoder still reads all of them.
        coefficients = full_size[0] * full_size[1] * getattr(image, "layers", 4) * _COEFFICIENT_BYTES
        return num_pixels * _REDUCED_BYTES_PER_PIXEL + is_buffered * coefficients
    if image.format == "WEBP":
        return num_pixels * _WEBP_BYTES_PER_PIXEL
    if image.format == "AVIF":
        return num_pixels * _AVIF_BYTES_PER_PIXEL
    strip_bytes = min(num_pixels, _STRIP_PIXELS) * _STRIP_BYTES_PER_PIXEL.get(image.mode, 0)
    if image.format == "TIFF" and image.mode == "RGBA":
        return num_pixels * _TIFF_RGBA_BYTES_PER_PIXEL + strip_bytes
    return int(num_pixels * _BYTES_PER_PIXEL.get(image.mode, _OTHER_BYTES_PER_PIXEL)) + strip_bytes


def count_scans(data: bytes) -> int:
    """Counts the scans of the first picture in the bytes of a JPEG, up to one more than MAX_SCANS."""
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
    """Memory that all pictures decoded at the same time share."""

    def __init__(self, num_bytes: int) -> None:
        self._free = self._num_bytes = num_bytes
        self._changed = threading.Condition()

    @contextmanager
    def take(self, num_bytes: int) -> Iterator[None]:
        """Reserves memory for the `with` block, and waits until it is free.

        Args:
            num_bytes: Memory to reserve; a picture that needs more than the whole budget waits for all of it.
        """
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
