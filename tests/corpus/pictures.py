"""Pictures: one of every accepted format and mode, and those made to cost memory or time or to deceive."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from hostile_files import jpeg_of_many_scans, lossless_webp
from PIL import Image

Make = Callable[[], bytes]


def drawn(mode: str = "RGB", side: int = 48) -> Image.Image:
    """Returns a picture of noise over a slope."""
    slope = np.add.outer(np.arange(side), np.arange(side)) * (128 // side)
    noise = np.random.default_rng(0).integers(0, 128, (side, side))
    return Image.fromarray((slope + noise).astype(np.uint8)).convert("RGB").convert(mode)


def saved(mode: str, format: str, **options: Any) -> Make:
    """Returns a function that makes the file of a picture."""

    def make() -> bytes:
        buffer = io.BytesIO()
        if mode == "I;16":
            Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)).save(buffer, format, **options)
        else:
            drawn(mode).save(buffer, format, **options)
        return buffer.getvalue()

    return make


def animated(format: str) -> Make:
    """Returns a function that makes an animation of three frames."""

    def make() -> bytes:
        more = [drawn("P").rotate(90), drawn("P").rotate(180)]
        return saved("P", format, save_all=True, append_images=more)()

    return make


ACCEPTED: dict[str, Make] = {
    **{f"png-{mode}": saved(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    "jpeg": saved("RGB", "JPEG"),
    "jpeg-progressive": saved("L", "JPEG", progressive=True),
    "jpeg-cmyk": saved("CMYK", "JPEG"),
    "webp": saved("RGB", "WEBP"),
    "webp-lossless": saved("RGBA", "WEBP", lossless=True),
    "gif": animated("GIF"),
    "apng": animated("PNG"),
    "bmp": saved("RGB", "BMP"),
    "tiff": saved("RGB", "TIFF"),
    "tiff-lzw": saved("L", "TIFF", compression="tiff_lzw"),
    "tiff-pages": saved("L", "TIFF", save_all=True, append_images=[drawn("L")]),
    "ppm": saved("RGB", "PPM"),
    "pgm": saved("L", "PPM"),
    "avif": saved("RGB", "AVIF", speed=10),
}
"""Each is taken by every route for pictures."""


def chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, data: bytes = b"", bits: int = 8) -> bytes:
    """Returns a grey PNG that declares a size, with any pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + end


def honest_png(side: int) -> bytes:
    """Returns a black PNG of one bit a pixel, which is large only when it is decoded."""
    return png(side, side, data=bytes((-(-side // 8) + 1) * side), bits=1)


def cut(make: Make) -> Make:
    """Returns a function that makes the first two thirds of a file."""
    return lambda: (data := make())[: len(data) * 2 // 3]


def patched(make: Make, before: bytes, after: bytes) -> Make:
    """Returns a function that makes a file in which the first `before` is replaced."""

    def make_patched() -> bytes:
        data = make()
        assert before in data
        return data.replace(before, after, 1)

    return make_patched


def lying_jpeg() -> bytes:
    """Returns a JPEG of 48 × 48 pixels that declares 65 500 × 65 500."""
    data = ACCEPTED["jpeg"]()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", 65_500, 65_500) + data[at + 4 :]


def tiff(*entries: tuple[int, int, int, int], next_at: int = 0) -> bytes:
    """Returns a little-endian TIFF of one directory, whose entries are (tag, type, count, value)."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", next_at)


def tiff_of(width: int, height: int, num_bytes: int, next_at: int = 0) -> bytes:
    """Returns a grey TIFF that declares a size and the bytes of its only strip."""
    entries = ((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
               (273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, num_bytes))  # fmt: skip
    return tiff(*entries, next_at=next_at) + bytes(64)


def jpeg_with_comments(num: int) -> bytes:
    """Returns a JPEG with many comments of 64 kB of zeros."""
    data = ACCEPTED["jpeg"]()
    return data[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * num + data[2:]


def gif_of(width: int, height: int, inner: tuple[int, int] | None = None) -> bytes:
    """Returns a GIF whose canvas and whose frame declare sizes; its pixels are missing."""
    inner = inner or (width, height)
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, *inner, 0) + b"\x02\x02\x4c\x01\x00;"


BAD: tuple[tuple[str, Make, int, str], ...] = (
    ("no-bytes", lambda: b"", 422, "not_an_image"),
    ("text", lambda: b"no picture" * 100, 422, "not_an_image"),
    ("zeros", lambda: bytes(10_000), 422, "not_an_image"),
    *((f"cut-{name}", cut(ACCEPTED[name]), 422, "not_an_image")
      for name in ("png-RGB", "jpeg", "webp", "tiff", "ppm", "bmp", "avif")),
    ("cut-gif", cut(saved("P", "GIF")), 422, "not_an_image"),
    ("png-declares-60000", lambda: png(60_000, 60_000, data=bytes(1000)), 413, "image_too_large"),
    ("png-declares-2-31", lambda: png(2**31 - 1, 2**31 - 1), 413, "image_too_large"),
    ("png-declares-nothing", lambda: png(0, 0), 422, "not_an_image"),
    ("png-without-pixels", lambda: png(100, 100), 422, "not_an_image"),
    ("jpeg-declares-65500", lying_jpeg, 413, "image_too_large"),
    ("webp-declares-49-mp", lambda: lossless_webp(7000), 413, "image_too_large"),
    ("gif-declares-65535", lambda: gif_of(65_535, 65_535), 413, "image_too_large"),
    ("gif-frame-larger-than-canvas", lambda: gif_of(8, 8, (65_535, 65_535)), 413, "image_too_large"),
    ("tiff-declares-60000", lambda: tiff_of(60_000, 60_000, 64), 413, "image_too_large"),
    ("tiff-declares-2-32", lambda: tiff_of(2**32 - 1, 2**32 - 1, 64), 413, "image_too_large"),
    ("tiff-strip-of-4-gib", lambda: tiff_of(48, 48, 2**32 - 1), 422, "not_an_image"),
    ("tiff-huge-tag", lambda: tiff((256, 4, 2**30, 8), (257, 4, 2**30, 8)), 422, "not_an_image"),
    ("ppm-of-long-numbers", lambda: b"P6 " + b"9" * 5000 + b" 1 255\n" + bytes(64), 422, "not_an_image"),
    ("ppm-declares-2-40", lambda: b"P5 1048576 1048576 255\n" + bytes(64), 413, "image_too_large"),
    ("bmp-declares-2-31", patched(ACCEPTED["bmp"], struct.pack("<ii", 48, 48), struct.pack("<ii", 2**31 - 1, 48)),
     413, "image_too_large"),
    ("svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
     422, "not_an_image"),
    ("eps", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/etc/passwd) run\n", 422, "not_an_image"),
    ("pdf-that-holds-a-jpeg", lambda: b"%PDF-1.4\n" + ACCEPTED["jpeg"](), 422, "not_an_image"),
    ("ico", saved("RGB", "ICO"), 422, "not_an_image"),
    ("zip", lambda: b"PK\x05\x06" + bytes(18), 422, "not_an_image"),
)  # fmt: skip
"""Name, file, status and code; each is refused by every route for pictures."""

SLOW = (("jpeg-scans", lambda: jpeg_of_many_scans(20_000), 415, "unsupported_image"),) * 3
"""Files that would take minutes; each comes to every route."""


def png_with_bomb(kind: bytes) -> bytes:
    """Returns a PNG with a compressed text or profile of 64 MB."""
    return png(8, 8, chunk(kind, b"a\0\0" + zlib.compress(bytes(64 * 2**20))), data=bytes(72))


ODD: dict[str, Make] = {
    "png-text-bomb": lambda: png_with_bomb(b"zTXt"),
    "png-profile-bomb": lambda: png_with_bomb(b"iCCP"),
    "png-then-html": lambda: ACCEPTED["png-RGB"]() + b"<script>alert(1)</script>",
    "jpeg-then-zip": lambda: ACCEPTED["jpeg"]() + b"PK\x05\x06" + bytes(18),
    "gif-then-javascript": lambda: ACCEPTED["gif"]() + b"*/=1;alert(1)",
    "tiff-whose-directories-go-round": lambda: tiff_of(8, 8, 64, next_at=8),
    "jpeg-of-comments": lambda: jpeg_with_comments(400),
    "png-of-one-pixel": lambda: png(1, 1, data=b"\0\x7f"),
    "png-of-one-row": lambda: png(20_000, 1, data=bytes(20_001)),
    "png-of-48-mp": lambda: honest_png(6900),
}
"""Files that are pictures, although they are more than that, or expensive."""
