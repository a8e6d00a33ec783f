"""What a file says beside its pixels never costs the picture, and 16 bits mean the same as 8."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from training.data.images import decode_image
from training.data.picture_notes import without_notes

_COLOURS = np.random.default_rng(5).integers(0, 256, (12, 16, 3), dtype=np.uint8)
_GREY = np.arange(192, dtype=np.uint8).reshape(12, 16)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(chunks: bytes, data: bytes | None = None) -> bytes:
    """Returns a PNG with chunks behind its header."""
    data = data or encode(Image.fromarray(_COLOURS), "PNG")
    return data[:33] + chunks + data[33:]


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


_MUCH = zlib.compress(bytes(3 * 2**20))


@pytest.mark.parametrize(
    "chunks",
    [
        png_chunk(b"iTXt", b"workflow\0\1\0\0\0" + _MUCH),
        png_chunk(b"zTXt", b"prompt\0\0" + _MUCH),
        png_chunk(b"iCCP", b"scanner\0\0" + _MUCH),
        png_chunk(b"tEXt", b"note\0" + b"x" * 2**16) * 1100,
        png_chunk(b"eXIf", b"II*\0" + bytes(5 * 2**20)),
        png_chunk(b"tIME", b"")[:-4] + b"oops",
        png_chunk(b"prVt", b"?") * 20_000,
    ],
    ids=["iTXt", "zTXt", "iCCP", "70 MB of tEXt", "eXIf", "checksum", "20 000 chunks"],
)
def test_texts_and_profiles_cost_no_png(chunks: bytes) -> None:
    image = decode_image(png_with(chunks), max_bytes=2**27)
    assert np.array_equal(np.asarray(image), _COLOURS)


def test_a_png_is_still_turned_by_its_exif_block_and_by_xmp() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='3'/>".replace(b"'", b'"')
    for chunk in (png_chunk(b"eXIf", exif.tobytes()[6:]), png_chunk(b"iTXt", xmp)):
        assert np.array_equal(np.asarray(decode_image(png_with(chunk))), _COLOURS[::-1, ::-1])


def test_segments_beside_the_pixels_cost_no_jpeg() -> None:
    """A broken index of pictures (MPF) and odd profiles made Pillow refuse the file."""
    plain = encode(Image.fromarray(_COLOURS), "JPEG", quality=95)
    index = b"MPF\0II*\0" + struct.pack("<LHHHLLL", 8, 1, 0xB001, 4, 1, 2, 0)
    notes = jpeg_segment(0xE2, index) + jpeg_segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000))
    notes += jpeg_segment(0xED, b"Photoshop 3.0\0" + bytes(900)) + jpeg_segment(0xFE, b"\xff\xda" * 100)
    assert np.array_equal(np.asarray(decode_image(plain[:2] + notes + plain[2:])), np.asarray(decode_image(plain)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_odd_tags_cost_no_tiff(order: str) -> None:
    """Resolutions that are texts made Pillow refuse the file."""
    odd = [(270, 2, 4, b"abc\0"), (282, 2, 4, b"abc\0"), (283, 2, 4, b"abc\0"), (296, 3, 1, _short(3, order))]
    data = tiff(_GREY, order, photometric=1, more=[*odd, (34675, 7, 2**30, bytes(4))])
    assert np.array_equal(np.asarray(decode_image(data)), _GREY)


def _short(value: int, order: str) -> bytes:
    return struct.pack(f"{order}HH", value, 0)


def tiff(
    pixels: NDArray[Any], order: str, *, photometric: int, more: list[tuple[int, int, int, bytes]] | None = None
) -> bytes:
    """Returns an uncompressed grey TIFF of any number type."""
    body = pixels.astype(f"{order}{pixels.dtype.kind}{pixels.itemsize}").tobytes()
    kinds = {"u": 1, "i": 2, "f": 3}
    numbers = {
        256: pixels.shape[1], 257: pixels.shape[0], 258: 8 * pixels.itemsize, 259: 1, 262: photometric,
        277: 1, 278: pixels.shape[0], 339: kinds[pixels.dtype.kind],
    }  # fmt: skip
    entries = [(tag, 3, 1, _short(value, order)) for tag, value in numbers.items()]
    entries += [(273, 4, 1, struct.pack(f"{order}L", 8)), (279, 4, 1, struct.pack(f"{order}L", len(body)))]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", 8 + len(body))
    directory = struct.pack(f"{order}H", len(entries) + len(more or []))
    for tag, kind, count, value in sorted([*entries, *(more or [])]):
        directory += struct.pack(f"{order}HHL", tag, kind, count) + value
    return head + body + directory + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "int32", "float32"])
def test_a_tiff_in_which_0_is_white_is_no_negative(kind: str, order: str) -> None:
    scale = {"uint8": 1, "uint16": 257, "int16": 128, "int32": 257, "float32": 1 / 255}[kind]
    pixels = (_GREY.astype(float) * scale).astype(kind)
    shown = np.asarray(decode_image(tiff(pixels, order, photometric=1)))
    assert np.array_equal(np.asarray(decode_image(tiff(pixels, order, photometric=0))), 255 - shown)
    if kind in ("uint8", "uint16", "int32", "float32"):
        assert np.array_equal(shown, _GREY)


def test_a_compressed_tiff_of_16_bits_in_which_0_is_white_is_no_negative() -> None:
    pixels = Image.fromarray((_GREY * 257.0).astype(np.uint16))
    data = encode(pixels, "TIFF", compression="tiff_lzw", tiffinfo={262: 0})
    assert np.array_equal(np.asarray(decode_image(data)), 255 - _GREY)


def test_the_transparent_grey_of_a_png_of_16_bits_shows_white() -> None:
    data = encode(Image.fromarray((_GREY * 257.0).astype(np.uint16)), "PNG", transparency=100 * 257)
    twin = encode(Image.fromarray(_GREY), "PNG", transparency=100)
    shown = np.asarray(decode_image(data))
    assert np.array_equal(shown, np.asarray(decode_image(twin)))
    assert shown[_GREY == 100].tolist() == [255]


def raw_png(bits: int, colour_type: int, rows: list[bytes], key: tuple[int, ...]) -> bytes:
    width = {2: 4, 4: 2, 16: 1}[bits]
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", struct.pack(f">{len(key)}H", *key))]
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def test_the_transparent_colour_has_the_scale_of_the_pixels() -> None:
    assert np.asarray(decode_image(raw_png(2, 0, [b"\x1b"], (1,)))).tolist() == [[0, 255, 170, 255]]
    assert np.asarray(decode_image(raw_png(4, 0, [b"\x5f"], (5,)))).tolist() == [[255, 255]]
    assert np.asarray(decode_image(raw_png(4, 0, [b"\x5a"], (5,)))).tolist() == [[255, 170]]
    colours = [struct.pack(">3H", 0x0123, 0x4567, 0x89AB), struct.pack(">3H", 0x1123, 0x4567, 0x89AB)]
    shown = np.asarray(decode_image(raw_png(16, 2, colours, (0x0123, 0x4567, 0x89AB))))
    assert shown.tolist() == [[[255, 255, 255]], [[0x11, 0x45, 0x89]]]


def test_a_file_without_notes_is_not_copied_and_a_cut_one_is_left_to_pillow() -> None:
    for format in ("PNG", "GIF", "WEBP", "BMP", "PPM"):
        data = encode(Image.fromarray(_COLOURS), format)
        assert without_notes(data) is data
    for data in (encode(Image.fromarray(_COLOURS), format) for format in ("PNG", "JPEG", "TIFF")):
        for end in range(min(len(data), 700)):
            assert len(without_notes(data[:end])) <= end


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_an_avif_is_read() -> None:
    shown = np.asarray(decode_image(encode(Image.new("RGB", (16, 12), (200, 100, 50)), "AVIF", quality=100)))
    assert np.abs(shown.astype(int) - [200, 100, 50]).max() <= 3
