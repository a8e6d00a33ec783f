"""The one way in which a picture becomes pixels: uploads, packing and traversals all come through here.

Free of torch. A file is never trusted: its size, its format and its declared dimensions are checked before any pixel
is decoded.
"""

import io
import re
import struct
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from models.info import Preprocessing
from training.data.decoding import MAX_DECODING_BYTES, MAX_SCANS, DecodingBudget, count_scans, decoding_bytes

__all__ = [
    "DEFAULT_MAX_BYTES",
    "DEFAULT_MAX_PIXELS",
    "FORMATS",
    "ImageError",
    "Preprocessing",
    "decode_image",
    "has_picture_suffix",
    "is_coloured",
    "load_image",
    "looks_like_picture",
    "preprocess",
    "preprocess_array",
]

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
"""What is opened. Fewer decoders than Pillow has: each of them is code that strangers feed."""

_SIGNATURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"])

_GREY_SPREAD = 16
"""Levels of 255 by which the channels of a grey picture may differ."""

DEFAULT_MAX_BYTES = 64 * 2**20
DEFAULT_MAX_PIXELS = 50_000_000

_STRIP_PIXELS = 2**20

DARKEST = 1 / 8
"""Where the range of values is a guess, a part of it that the highest must reach: else all would be nearly black."""

_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    ArithmeticError,
    struct.error,
)
"""What Pillow's decoders are known to raise on damaged files, beside its own UnidentifiedImageError (an OSError)."""

_PROGRESSIVE = re.compile(rb"\xff\xc2\x00[\x0b\x11\x14]\x08")
"""The frame header of a progressive JPEG with one, three or four components."""

_BUDGET = DecodingBudget(2 * MAX_DECODING_BYTES)

_TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""


class ImageError(ValueError):
    """A picture that cannot be used. `code`: not_an_image, image_too_large or unsupported_image."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def looks_like_picture(head: bytes) -> bool:
    """Whether a file that begins so may be a picture that is opened here. Args: head, its first 16 bytes or more."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[:1] == b"P":
        return head[1:2] in b"123456fFy" and head[2:3].isspace()
    return head.startswith(_SIGNATURES)


def has_picture_suffix(name: str) -> bool:
    """Whether a file is called as pictures are."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def decode_image(
    data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Decodes the bytes of an image file into an upright picture in mode L or RGB.

    The first frame of an animation; EXIF rotation applied; alpha laid over white; 16-bit, CMYK and palettes brought
    to 8 bits.
    Args: max_bytes, of the file; max_pixels, width times height as the file declares it.
    Raises: ImageError.
    """
    image = _open(data, max_bytes=max_bytes, max_pixels=max_pixels)
    with _BUDGET.take(_checked_cost(image, image.size, data)):
        return _to_plain(image)


def load_image(
    data: bytes,
    preprocessing: Preprocessing,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    on_cost: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Decodes, crops and resizes a picture as a model wants it.

    Args: on_cost, called with the bytes that decoding will take, before it begins.
    Returns: (H, W, C) uint8, H = W = preprocessing.image_size, C = preprocessing.num_channels.   Raises: ImageError.
    """
    image = _open(data, max_bytes=max_bytes, max_pixels=max_pixels)
    full_size = image.size
    _shrink_while_decoding(image, preprocessing)
    cost = _checked_cost(image, full_size, data)
    if on_cost is not None:
        on_cost(cost)
    with _BUDGET.take(cost):
        return preprocess(_to_plain(image), preprocessing)


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Crops and resizes a picture in mode L or RGB (decode_image gives one).

    Shrinking averages over areas, enlarging is bilinear. A crop_size that exceeds the picture takes all of it.
    Returns: (H, W, C) uint8.
    """
    size = preprocessing.image_size
    if preprocessing.num_channels == 1 and image.mode != "L":
        image = image.convert("L")
    box = _crop_box(image.size, preprocessing)
    width, height = box[2] - box[0], box[3] - box[1]
    if (width, height) == (size, size):
        image = image.crop(box)
    else:
        shrinks = width >= size and height >= size
        resample = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
        image = image.resize((size, size), resample, box=box)
    if preprocessing.num_channels == 3 and image.mode != "RGB":  # Last: it makes four bytes of one.
        image = image.convert("RGB")
    return np.asarray(image, np.uint8).reshape(size, size, preprocessing.num_channels)


def is_coloured(pixels: NDArray[np.uint8]) -> bool:
    """Whether any pixel's channels differ by more than what a codec makes of grey. Args: pixels, (..., C) uint8."""
    colours = pixels[..., :3].astype(np.int16)
    return bool(np.ptp(colours, axis=-1).max(initial=0) > _GREY_SPREAD)


def preprocess_array(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The same for pixels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8. Raises: ImageError."""
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise ImageError(
            "unsupported_image", f"expected uint8 (H, W) or (H, W, 1|3|4), got {image.dtype} {image.shape}"
        )
    return preprocess(_to_plain(Image.fromarray(np.ascontiguousarray(image))), preprocessing)


def _open(data: bytes, *, max_bytes: int, max_pixels: int) -> Image.Image:
    """Reads the header alone and refuses what is too large before a pixel is decoded."""
    if len(data) > max_bytes:
        raise ImageError("image_too_large", f"the file has {len(data)} bytes, the limit is {max_bytes}")
    if not data:
        raise ImageError("not_an_image", "the file is empty")
    # Pillow's own limit, which holds for the whole process, would refuse what our caller allows. It is only ever raised
    # here, so that it stays a second guard where files declare one size and hold another.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image_too_large", f"the picture has more than {max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError("not_an_image", f"not a picture in one of the formats {', '.join(FORMATS)}") from error
    except _DAMAGED as error:
        raise ImageError("not_an_image", f"the file is damaged: {error}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            "image_too_large", f"the picture has {width}×{height} = {width * height} pixels, the limit is {max_pixels}"
        )
    return image


def _checked_cost(image: Image.Image, full_size: tuple[int, int], data: bytes) -> int:
    """Memory that decoding will take. Raises ImageError where it, or the work of a JPEG's scans, is too much."""
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


def _shrink_while_decoding(image: Image.Image, preprocessing: Preprocessing) -> None:
    """Lets the JPEG decoder skip detail that the resize would average away (2 to 8 times faster on photographs).

    Twice the wanted size is kept, so that the area average still sees four samples a pixel. With crop_size, which
    counts pixels of the file, the picture must keep its size.
    """
    if image.format in ("JPEG", "MPO") and preprocessing.crop_size is None:
        mode = "L" if preprocessing.num_channels == 1 and image.mode in ("L", "RGB") else None
        # draft() with a mode of None keeps the file's own.
        image.draft(mode, (2 * preprocessing.image_size, 2 * preprocessing.image_size))


def _to_plain(image: Image.Image) -> Image.Image:
    """Decodes the pixels: upright, 8 bits, without alpha, in mode L or RGB."""
    try:
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("image_too_large", "the picture holds more pixels than it declares") from error
    except MemoryError as error:
        raise ImageError("image_too_large", "the picture does not fit into memory") from error
    except _DAMAGED as error:
        raise ImageError("not_an_image", f"the file is damaged: {error}") from error
    try:
        decoded, image = image, _upright(image)
        if image is not decoded:
            decoded.close()  # Our caller holds on to it.
        if image.mode in ("RGB", "L"):
            return _flatten_colour_key(image)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            # Sixteen bits have one scale; that of the others is read off the whole picture.
            return _in_strips(image, "L", _to_eight_bits) if "16" in image.mode else _to_eight_bits(image)
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            return _over_white(image)
        return image.convert("L" if image.mode == "1" else "RGB")
    except _DAMAGED as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("unsupported_image", f"pictures of mode {image.mode} are not supported: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says. ImageOps.exif_transpose also writes the EXIF block anew, which fails on odd ones."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except _DAMAGED:  # A damaged EXIF block says nothing about the pixels.
        return image
    return image if turn is None else image.transpose(turn)


def _flatten_colour_key(image: Image.Image) -> Image.Image:
    """PNG may name one colour of a grey or RGB picture as transparent."""
    return _over_white(image) if "transparency" in image.info else image


def _over_white(image: Image.Image) -> Image.Image:
    mode = "L" if image.mode in ("L", "LA", "La") else "RGB"

    def flatten(strip: Image.Image) -> Image.Image:
        rgba = strip.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert(mode)

    return _in_strips(image, mode, flatten)


def _in_strips(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`convert`, which takes each pixel by itself and gives `mode`, on some rows of a large picture at a time.

    What it makes on the way is several times the picture: 955 MB for an RGBA picture of 50 megapixels, of which its
    pixels and the result are 400.
    """
    num_rows = max(1, _STRIP_PIXELS // image.width)
    if image.height <= num_rows:
        return convert(image)
    plain = Image.new(mode, image.size)
    for top in range(0, image.height, num_rows):
        box = (0, top, image.width, min(top + num_rows, image.height))
        plain.paste(convert(image.crop(box)), box)
    return plain


def white_of_floats(low: float, high: float) -> tuple[int, bool]:
    """What white counts to in floats of this range, 1 or 255, and whether they fit that, which they may overshoot."""
    white = 1 if high <= 1.5 else 255
    return white, low >= -0.05 * white and (white == 1 or DARKEST * white <= high <= 1.1 * white)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Grey pictures of 16 bits, 32 bits or floats. Floats count to 1 or to 255, and may overshoot a little."""
    values: NDArray[np.floating] = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ImageError("unsupported_image", "the picture holds values that are not finite")
    if image.mode == "F":
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        white, fits = white_of_floats(low, high)
        if not fits:
            raise ImageError("unsupported_image", f"the picture holds {low:g} to {high:g}; scale it to 0 to 1")
        values = values * (255 / white)
    elif image.mode.startswith("I;16") or image.format == "PPM" or values.max(initial=0) > 255:
        values = values / 257
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


def _crop_box(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """The kept region: left, top, right, bottom."""
    width, height = size
    if preprocessing.crop_size is not None:
        kept_width, kept_height = min(width, preprocessing.crop_size), min(height, preprocessing.crop_size)
    elif preprocessing.crop == "center":
        kept_width = kept_height = min(width, height)
    else:
        return (0, 0, width, height)
    if preprocessing.crop == "center":
        kept_width = kept_height = min(kept_width, kept_height)
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return (left, top, left + kept_width, top + kept_height)
