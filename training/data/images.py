"""Decoding of pictures into pixels for uploads, packing and traversals; free of torch.

No file is trusted: its size, format, declared dimensions and the cost of decoding are checked before any pixel is
decoded.
"""

import io
import struct
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import AvifImagePlugin, ExifTags, Image, PngImagePlugin, UnidentifiedImageError, features

from models.info import Preprocessing
from training.data.decoding import MAX_DECODING_BYTES, DecodingBudget, ImageError, checked_cost
from training.data.picture_notes import is_negative, without_notes

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

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", *(("AVIF",) if features.check("avif") else ()))
"""Formats that are opened. Pillow has more, but anyone can send any bytes to each decoder."""

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # Several pictures are decoded at once already.

_SIGNATURES = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"])

_GREY_SPREAD = 16
"""Number of levels, of 255, by which the channels of a grey picture may differ."""

DEFAULT_MAX_BYTES = 64 * 2**20
DEFAULT_MAX_PIXELS = 50_000_000

_STRIP_PIXELS = 2**20

DARKEST = 1 / 8
"""Smallest share of white for the brightest value if white is guessed; below it, pictures would be nearly black."""

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
"""Errors that Pillow's decoders raise on damaged files; its UnidentifiedImageError is an OSError."""

_BUDGET = DecodingBudget(2 * MAX_DECODING_BYTES)
"""Memory that the threads of this process may decode with at the same time."""

_NEGATIVE = "negative"
"""Our own key in a picture's info: True if 0 is white in it, which Pillow heeds only in pictures of 8 bits."""

_TURNS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The turn that makes a picture upright, by its EXIF orientation."""


def looks_like_picture(head: bytes) -> bool:
    """Returns True if a file may be a picture in one of FORMATS, judged by its first bytes (16 or more)."""
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        return head[8:12] in (b"avif", b"avis", b"mif1", b"msf1")
    if head[:1] == b"P":
        return head[1:2] in b"123456fFy" and head[2:3].isspace()
    return head.startswith(_SIGNATURES)


def has_picture_suffix(name: str) -> bool:
    """Returns True if a file's name has the suffix of a picture."""
    return PurePosixPath(name).suffix.lower() in _SUFFIXES


def decode_image(
    data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """Decodes the bytes of an image file into an upright picture in mode L or RGB.

    EXIF rotation is applied, alpha is laid over white, and 16-bit values, CMYK and palettes are converted to 8 bits. An
    animation gives its first frame.

    Args:
        data: The file.
        max_bytes: Limit on its size.
        max_pixels: Limit on width times height as the file declares them.

    Raises:
        ImageError: The file is not a picture, is damaged, or exceeds a limit.
    """
    image = _open(data, max_bytes=max_bytes, max_pixels=max_pixels)
    with _BUDGET.take(checked_cost(image, image.size, data)):
        return _to_plain(image)


def load_image(
    data: bytes,
    preprocessing: Preprocessing,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    on_cost: Callable[[int], None] | None = None,
) -> NDArray[np.uint8]:
    """Decodes, crops and resizes a picture for a model.

    Args:
        data: The file.
        preprocessing: Size, channels and crop.
        max_bytes: Limit on the size of the file.
        max_pixels: Limit on width times height as the file declares them.
        on_cost: Called with the memory in bytes that decoding will take, before it begins.

    Returns:
        (H, W, C) uint8, where H = W = preprocessing.image_size and C = preprocessing.num_channels.

    Raises:
        ImageError: The file is not a picture, is damaged, or exceeds a limit.
    """
    image = _open(data, max_bytes=max_bytes, max_pixels=max_pixels)
    full_size = image.size
    _shrink_while_decoding(image, preprocessing)
    cost = checked_cost(image, full_size, data)
    if on_cost is not None:
        on_cost(cost)
    with _BUDGET.take(cost):
        return preprocess(_to_plain(image), preprocessing)


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Crops and resizes a picture.

    Shrinking averages over areas, enlarging is bilinear. A crop_size that exceeds the picture keeps all of it.

    Args:
        image: A picture of mode L or RGB, as decode_image returns it.
        preprocessing: Size, channels and crop.

    Returns:
        (H, W, C) uint8.
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
    if preprocessing.num_channels == 3 and image.mode != "RGB":  # This comes last because it quadruples the memory.
        image = image.convert("RGB")
    return np.asarray(image, np.uint8).reshape(size, size, preprocessing.num_channels)


def is_coloured(pixels: NDArray[np.uint8]) -> bool:
    """Returns True if the channels of a pixel (..., C) uint8 differ by more than a codec's error in a grey picture."""
    colours = pixels[..., :3].astype(np.int16)
    return bool(np.ptp(colours, axis=-1).max(initial=0) > _GREY_SPREAD)


def preprocess_array(image: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Crops and resizes pixels like `preprocess`.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8; alpha is laid over white.
        preprocessing: Size, channels and crop.

    Returns:
        (H, W, C) uint8.

    Raises:
        ImageError: unsupported_image for another type or shape.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise ImageError(
            "unsupported_image", f"expected uint8 (H, W) or (H, W, 1|3|4), got {image.dtype} {image.shape}"
        )
    return preprocess(_to_plain(Image.fromarray(np.ascontiguousarray(image))), preprocessing)


def _open(data: bytes, *, max_bytes: int, max_pixels: int) -> Image.Image:
    """Opens a picture by its header, and refuses a large one before any pixel is decoded."""
    if len(data) > max_bytes:
        raise ImageError("image_too_large", f"the file has {len(data)} bytes, the limit is {max_bytes}")
    if not data:
        raise ImageError("not_an_image", "the file is empty")
    # Pillow's own limit holds for the whole process and may be below that of our caller. It is only raised, so that it
    # remains a second guard against files that have another size than they declare.
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(io.BytesIO(without_notes(data)), formats=FORMATS)
        image.info[_NEGATIVE] = is_negative(data)
        _correct_colour_key(image)
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


def _correct_colour_key(image: Image.Image) -> None:
    """Brings the transparent colour of a PNG to the scale of its pixels; Pillow leaves it as the file writes it."""
    key = image.info.get("transparency")
    tiles = image.tile if isinstance(image, PngImagePlugin.PngImageFile) else []
    raw_mode = tiles[0].args if tiles else None
    if isinstance(key, int) and raw_mode in ("L;2", "L;4"):
        image.info["transparency"] = key * 85 if raw_mode == "L;2" else key * 17
    elif isinstance(key, tuple) and raw_mode == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _shrink_while_decoding(image: Image.Image, preprocessing: Preprocessing) -> None:
    """Lets the JPEG decoder skip detail that the resize would average away; photographs take 2 to 8 times less time.

    Twice the final size is kept, so that the area average still has four samples a pixel. Nothing is skipped with
    crop_size, which counts pixels of the file.
    """
    if image.format in ("JPEG", "MPO") and preprocessing.crop_size is None:
        mode = "L" if preprocessing.num_channels == 1 and image.mode in ("L", "RGB") else None
        # If the mode is None, draft() keeps the mode of the file.
        image.draft(mode, (2 * preprocessing.image_size, 2 * preprocessing.image_size))


def _to_plain(image: Image.Image) -> Image.Image:
    """Decodes the pixels into an upright picture of 8 bits without alpha, in mode L or RGB."""
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
            decoded.close()  # The caller still refers to it, so its pixels are released here.
        if image.mode in ("RGB", "L"):
            return _flatten_colour_key(image)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            # The scale of 16 bits is fixed; that of 32 bits and floats depends on the whole picture.
            return _in_strips(image, "L", _to_eight_bits) if "16" in image.mode else _to_eight_bits(image)
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            return _over_white(image)
        return image.convert("L" if image.mode == "1" else "RGB")
    except _DAMAGED as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("unsupported_image", f"pictures of mode {image.mode} are not supported: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turns a picture according to its EXIF orientation.

    ImageOps.exif_transpose would also rewrite the EXIF block, which fails on odd ones.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except _DAMAGED:  # The pixels may be intact although the EXIF block is damaged.
        return image
    return image if turn is None else image.transpose(turn)


def _flatten_colour_key(image: Image.Image) -> Image.Image:
    """Lays a picture over white if it declares one colour as transparent, as a grey or RGB PNG can."""
    return _over_white(image) if "transparency" in image.info else image


def _over_white(image: Image.Image) -> Image.Image:
    """Lays a picture with transparency over white."""
    mode = "L" if image.mode in ("L", "LA", "La") else "RGB"

    def flatten(strip: Image.Image) -> Image.Image:
        rgba = strip.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert(mode)

    return _in_strips(image, mode, flatten)


def _in_strips(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Converts a large picture a few rows at a time.

    The conversion needs several times the memory of the picture: 955 MB for an RGBA picture of 50 megapixels, of which
    its pixels and the result take 400 MB.

    Args:
        image: The picture.
        mode: Mode of the result.
        convert: Converts a strip to `mode`; it must treat each pixel by itself.
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
    """Guesses the value of white in floats.

    Args:
        low: The lowest value.
        high: The highest value.

    Returns:
        1 or 255, and whether the range fits it; values may overshoot a little.
    """
    white = 1 if high <= 1.5 else 255
    return white, low >= -0.05 * white and (white == 1 or DARKEST * white <= high <= 1.1 * white)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Converts grey pictures of 16 bits, 32 bits or floats; white is 1 or 255 in floats, which may overshoot it."""
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
    bytes_ = np.clip(np.round(values), 0, 255).astype(np.uint8)
    if image.info.get(_NEGATIVE):
        bytes_ = 255 - bytes_
    if isinstance(key := image.info.get("transparency"), int):
        bytes_[np.asarray(image) == key] = 255
    return Image.fromarray(bytes_)


def _crop_box(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Returns the region that is kept: left, top, right and bottom."""
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
