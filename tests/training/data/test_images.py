"""Decoding of picture files of many formats, and refusal of damaged or hostile ones."""

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from training.data import images
from training.data.images import (
    FORMATS,
    ImageError,
    Preprocessing,
    decode_image,
    load_image,
    looks_like_picture,
    preprocess_array,
)

GREY8 = Preprocessing(image_size=8, num_channels=1)
RGB8 = Preprocessing(image_size=8, num_channels=3)


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def flat(mode: str, colour: Any, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new(mode, size, colour)


def quadrants(size: int = 8) -> Image.Image:
    """Returns quadrants of red, green, blue and white, which look different in every orientation."""
    pixels = np.zeros((size, size, 3), np.uint8)
    half = size // 2
    pixels[:half, :half, 0] = 255
    pixels[:half, half:, 1] = 255
    pixels[half:, :half, 2] = 255
    pixels[half:, half:] = 255
    return Image.fromarray(pixels)


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    pixels = load_image(encode(quadrants(), format, **options), RGB8)
    assert np.array_equal(pixels, np.asarray(quadrants()))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    upright = quadrants(64)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, "JPEG", exif=exif, quality=95, subsampling=0)
    pixels = load_image(data, Preprocessing(image_size=64, num_channels=3)).astype(int)
    assert np.abs(pixels - np.asarray(upright)).mean() < 3


@pytest.mark.parametrize("tag", [256, 296, 258])
@pytest.mark.parametrize("odd", [(2, 4, b"40\0\0"), (11, 1, struct.pack("<f", 2))])
def test_odd_tags_beside_the_orientation_do_no_harm(tag: int, odd: tuple[int, int, bytes]) -> None:
    """Pillow reads an EXIF block with a width or unit as text or float, but cannot write it again."""
    kind, count, value = odd
    entries = [(tag, kind, count, value), (0x0112, 3, 1, struct.pack("<HH", 6, 0))]
    block = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2)
    block += b"".join(struct.pack("<HHL", *entry[:3]) + entry[3] for entry in sorted(entries)) + bytes(4)
    stored = quadrants(64).transpose(Image.Transpose.ROTATE_90)
    data = encode(stored, "JPEG", exif=block, quality=95, subsampling=0)
    pixels = load_image(data, Preprocessing(image_size=64, num_channels=3)).astype(int)
    assert np.abs(pixels - np.asarray(quadrants(64))).mean() < 3


def test_transparency_shows_white() -> None:
    assert load_image(encode(flat("RGBA", (255, 0, 0, 0))), RGB8).min() == 255
    assert load_image(encode(flat("LA", (0, 0))), GREY8).min() == 255
    half = load_image(encode(flat("RGBA", (255, 0, 0, 128))), RGB8)
    assert half[0, 0].tolist() == [255, 127, 127]


def test_transparent_palette_and_colour_key_show_white() -> None:
    palette = flat("RGB", (10, 20, 30)).quantize(2)
    assert load_image(encode(palette, "PNG", transparency=int(np.asarray(palette)[0, 0])), RGB8).min() == 255
    assert load_image(encode(flat("L", 9), "PNG", transparency=9), GREY8).min() == 255
    assert load_image(encode(flat("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3)), RGB8).min() == 255


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 100, [100] * 3),
        ("1", 1, [255] * 3),
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("RGB", (9, 8, 7), [9, 8, 7]),
    ],
)
def test_modes_become_rgb(mode: str, colour: Any, expected: list[int]) -> None:
    data = encode(flat(mode, colour), "TIFF")
    assert load_image(data, RGB8)[3, 4].tolist() == expected


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (200, 1), (32768, 128), (65535, 255)])
def test_sixteen_bits_span_the_whole_range(value: int, expected: int) -> None:
    pixels = np.full((8, 8), value, np.uint16)
    for format in ("PNG", "PPM", "TIFF"):
        assert (load_image(encode(Image.fromarray(pixels), format), GREY8) == expected).all(), format


def test_float_pictures_within_one_span_the_whole_range_and_nan_is_refused() -> None:
    assert (load_image(encode(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF"), GREY8) == 128).all()
    with pytest.raises(ImageError) as caught:
        load_image(encode(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), GREY8)
    assert caught.value.code == "unsupported_image"


def test_an_animation_gives_its_first_frame() -> None:
    frames = [flat("RGB", (255, 0, 0)), flat("RGB", (0, 0, 255))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert load_image(data, RGB8)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "data", [b"", b"GIF8", b"hello, I am no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_a_file_that_is_not_a_picture_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(data, RGB8)
    assert caught.value.code == "not_an_image"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF"])
def test_a_truncated_file_is_refused(format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    data = encode(noise, format)
    with pytest.raises(ImageError) as caught:
        load_image(data[: len(data) // 2], RGB8)
    assert caught.value.code == "not_an_image"


@pytest.mark.parametrize("side", [8_000, 11_000, 60_000])
def test_a_bomb_is_refused_before_a_pixel_is_decoded(side: int) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(png_that_declares(side, side), RGB8)
    assert caught.value.code == "image_too_large"


def test_the_callers_limits_apply() -> None:
    data = encode(quadrants(16))
    for limits in ({"max_bytes": len(data) - 1}, {"max_pixels": 255}):
        with pytest.raises(ImageError) as caught:
            decode_image(data, **limits)
        assert caught.value.code == "image_too_large"
    assert decode_image(data, max_bytes=len(data), max_pixels=256).size == (16, 16)


def test_shrinking_averages_areas() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    mean = pixels.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    assert np.abs(load_image(encode(Image.fromarray(pixels)), GREY8)[:, :, 0] - mean).max() <= 1


def _columns(width: int, height: int) -> bytes:
    """Returns a picture in which column i has the value i."""
    return encode(Image.fromarray(np.tile(np.arange(width, dtype=np.uint8), (height, 1))))


def test_crop_policies() -> None:
    def ends(**options: Any) -> tuple[int, int]:
        pixels = load_image(_columns(32, 8), Preprocessing(image_size=8, num_channels=1, **options))
        return int(pixels[0, 0, 0]), int(pixels[0, -1, 0])

    assert ends(crop="center") == (12, 19)
    squashed = ends(crop="none")
    assert squashed[0] in (1, 2)
    assert squashed[1] in (29, 30)
    assert ends(crop="center", crop_size=100) == (12, 19)


def test_crop_size_counts_pixels_of_the_file_also_in_a_jpeg() -> None:
    data = encode(Image.open(io.BytesIO(_columns(200, 160))), "JPEG", quality=100)
    pixels = load_image(data, Preprocessing(image_size=8, num_channels=1, crop_size=16))[0, :, 0].astype(int)
    assert np.abs(pixels - np.arange(92.5, 108, 2)).max() <= 2


def test_a_large_jpeg_decodes_to_what_its_area_average_is() -> None:
    small = np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    large = Image.fromarray(small).resize((1024, 768), Image.Resampling.BICUBIC)
    wanted = Preprocessing(image_size=64, num_channels=3)
    from_jpeg = load_image(encode(large, "JPEG", quality=95, subsampling=0), wanted).astype(int)
    from_png = load_image(encode(large), wanted).astype(int)
    assert np.abs(from_jpeg - from_png).mean() < 2


@given(size=st.tuples(st.integers(1, 80), st.integers(1, 80)), image_size=st.sampled_from([8, 32, 64]))
@settings(max_examples=30, deadline=None)
def test_any_picture_fits_any_network(size: tuple[int, int], image_size: int) -> None:
    for num_channels in (1, 3):
        for crop in ("center", "none"):
            wanted = Preprocessing(image_size=image_size, num_channels=num_channels, crop=crop)
            pixels = load_image(encode(flat("RGB", (200, 100, 50), size)), wanted)
            assert pixels.shape == (image_size, image_size, num_channels)
            assert pixels.dtype == np.uint8
            assert (pixels == ([200, 100, 50] if num_channels == 3 else [124])).all()


_NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 255, (24, 24, 3), dtype=np.uint8))
_FILES = [encode(_NOISE, format) for format in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")]


@given(
    data=st.sampled_from(_FILES),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=8),
)
@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_a_picture_or_an_image_error(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    assert _outcome(bytes(damaged)) in {(8, 8, 3), "not_an_image", "image_too_large", "unsupported_image"}


def _outcome(data: bytes) -> str | tuple[int, ...]:
    try:
        return load_image(data, RGB8).shape
    except ImageError as error:
        return error.code


def test_arrays_are_treated_like_pictures() -> None:
    rgb = np.asarray(quadrants())
    assert np.array_equal(preprocess_array(rgb, RGB8), load_image(encode(quadrants()), RGB8))
    assert preprocess_array(rgb[:, :, :1], RGB8).shape == (8, 8, 3)
    bad: list[NDArray[Any]] = [rgb.astype(float), rgb[..., :2], rgb[None]]
    for array in bad:
        with pytest.raises(ImageError):
            preprocess_array(array, RGB8)


def test_a_picture_of_every_format_is_recognised_by_its_first_bytes() -> None:
    for name in FORMATS:
        for mode in ("L", "RGB"):
            buffer = io.BytesIO()
            Image.new(mode, (9, 8)).save(buffer, name)
            assert looks_like_picture(buffer.getvalue()[:32]), name
    for head in (b"", b"P", b"Plain text", b"RIFF\0\0\0\0WAVEfmt ", b"PK\3\4", b"%PDF-1.7", b"\x7fELF"):
        assert not looks_like_picture(head)


def test_the_callers_limit_on_pixels_replaces_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow itself refuses pictures of more than twice its own limit."""
    data = encode(Image.new("RGB", (64, 64), (1, 2, 3)))
    for max_pixels in (2000, 4095):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(ImageError, match=f"{max_pixels}") as caught:
            load_image(data, RGB8, max_pixels=max_pixels)
        assert caught.value.code == "image_too_large"
    for max_pixels in (4096, 10**9):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        assert (load_image(data, RGB8, max_pixels=max_pixels) == [1, 2, 3]).all()


def _see_through() -> list[bytes]:
    rgba = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 4), dtype=np.uint8))
    palette = rgba.convert("RGB").quantize(16)
    return [
        encode(rgba),
        encode(rgba, "WEBP", lossless=True),
        encode(rgba.convert("LA")),
        encode(palette, transparency=bytes(range(0, 256, 16))),
        encode(palette, "GIF", transparency=3),
        encode(rgba.convert("L"), transparency=77),
    ]


@pytest.mark.parametrize("data", _see_through(), ids=["RGBA", "WEBP", "LA", "P", "GIF", "L"])
def test_a_large_picture_is_laid_over_white_a_few_rows_at_a_time(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.asarray(decode_image(data))
    composite, num_pixels = Image.alpha_composite, []

    def count(white: Image.Image, strip: Image.Image) -> Image.Image:
        num_pixels.append(strip.width * strip.height)
        return composite(white, strip)

    monkeypatch.setattr(Image, "alpha_composite", count)
    for limit in (200, 53, 1):
        monkeypatch.setattr(images, "_STRIP_PIXELS", limit)
        num_pixels.clear()
        assert np.array_equal(np.asarray(decode_image(data)), whole)
        assert max(num_pixels) <= max(limit, 53)


def test_a_large_picture_of_sixteen_bits_takes_little_extra_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (500, 500), dtype=np.uint16)))
    whole = np.asarray(decode_image(data))
    monkeypatch.setattr(images, "_STRIP_PIXELS", 5000)
    tracemalloc.start()
    try:
        image = decode_image(data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(np.asarray(image), whole)
    assert peak_bytes < 500 * 500
