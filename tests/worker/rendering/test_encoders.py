"""Encoders: what is read back is what was put in, in the order and for the time that was asked for."""

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from worker.rendering.encoders import (
    decode_png,
    encode_gif,
    encode_mp4,
    encode_png,
    encode_webp,
    enlarge,
    play_order,
    zip_files,
)
from worker.rendering.palette import nearest_colors, refine_palette, shared_palette
from worker.rendering.request import Pixels


def _read(data: bytes) -> tuple[Pixels, list[int]]:
    """Frames as RGB and their durations in milliseconds, by a decoder that is not ours."""
    image: Any = Image.open(io.BytesIO(data))
    frames, durations = [], []
    for step in range(image.n_frames):
        image.seek(step)
        frames.append(np.asarray(image.convert("RGB")))
        durations.append(image.info.get("duration", 0))
    return np.stack(frames), durations


def _psnr(frames: Pixels, truth: Pixels) -> float:
    error = ((frames.astype(float) - truth) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _smooth(num: int, size: int = 32, seed: int = 0, noise: int = 0) -> Pixels:
    """Colour frames that drift from one smooth picture to another."""
    generator = np.random.default_rng(seed)
    ends = [
        np.asarray(
            Image.fromarray(generator.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((size, size), 3), float
        )
        for _ in range(2)
    ]
    frames = [ends[0] + (ends[1] - ends[0]) * step / max(1, num - 1) for step in range(num)]
    noisy = np.stack(frames) + generator.integers(-noise, noise + 1, (num, size, size, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@settings(deadline=None, max_examples=25)
@given(
    num=st.integers(1, 6),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    levels=st.sampled_from([1, 2, 100, 255]),
    loop=st.sampled_from(["forward", "pingpong"]),
    seed=st.integers(0, 99),
)
def test_grey_gifs_are_exact(num: int, shape: tuple[int, int], levels: int, loop: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    frames = generator.integers(0, levels, (num, *shape, 1), dtype=np.uint8)
    frames[num // 2 :] = frames[num // 2]  # some frames in which nothing changes
    shown, _ = _read(encode_gif(frames, 10, loop))
    assert np.array_equal(shown, frames[play_order(num, loop)].repeat(3, -1))


def test_grey_gifs_of_all_256_levels_are_off_by_one_level_at_most() -> None:
    frames = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(2, 16, 16, 1)
    shown, _ = _read(encode_gif(frames, 10, "forward"))
    assert np.abs(shown.astype(int) - frames).max() == 1


def test_gifs_of_few_colours_look_the_same() -> None:
    colors = np.random.default_rng(1).integers(0, 256, (20, 3), dtype=np.uint8)
    frames = colors[np.random.default_rng(2).integers(0, 20, (4, 24, 24))]
    shown, _ = _read(encode_gif(frames, 10, "forward"))
    assert np.abs(shown.astype(int) - frames).max() <= 4


@pytest.mark.parametrize("noise", [0, 3])
def test_colour_gifs_are_as_good_as_median_cut_on_every_frame(noise: int) -> None:
    first, last = _smooth(2, noise=noise).astype(float)
    frames = np.stack([first + (last - first) * 0.1 * step / 9 for step in range(10)]).astype(np.uint8)
    ours = _psnr(_read(encode_gif(frames, 10, "forward"))[0], frames)
    each = [
        np.asarray(Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE).convert("RGB")) for frame in frames
    ]
    assert ours > _psnr(np.stack(each), frames)


def test_reserved_colours_do_not_fade() -> None:
    frames = _smooth(4)
    frames[:, 5:7, 5:7] = 214, 68, 44
    shown, _ = _read(encode_gif(frames, 10, "forward", [(214, 68, 44)]))
    assert np.array_equal(shown[:, 5:7, 5:7], frames[:, 5:7, 5:7])


def test_long_animations_keep_their_colours() -> None:
    frames = _smooth(17)
    shown, _ = _read(encode_gif(frames, 10, "forward"))
    assert len(shown) == 17
    # The worst case: every frame has other colours, and the palette serves eight of them.
    assert _psnr(shown, frames) > _psnr(_median_cut(frames), frames) - 2


def _median_cut(frames: Pixels) -> Pixels:
    """Each frame in 256 colours of its own, as imageio and Pillow quantise them."""
    images = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE).convert("RGB") for frame in frames]
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize("encode", [encode_gif, encode_webp])
@pytest.mark.parametrize("fps", [1, 15, 24, 50])
def test_the_whole_lasts_as_long_as_was_asked_for(encode: Any, fps: float) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    _, durations = _read(encode(frames, fps, "forward"))
    assert sum(durations) == pytest.approx(12 * 1000 / fps, abs=5)
    assert min(durations) >= 20


def test_ping_pong_shows_each_end_once() -> None:
    assert play_order(4, "pingpong") == [0, 1, 2, 3, 2, 1]
    assert play_order(2, "pingpong") == [0, 1]
    assert play_order(1, "pingpong") == [0]
    assert play_order(3, "forward") == [0, 1, 2]


@pytest.mark.parametrize("encode", [encode_gif, encode_webp, encode_mp4])
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_frames_give_equal_bytes(encode: Any, channels: int) -> None:
    frames = _smooth(5, size=33)[..., :channels]
    assert encode(frames, 12, "pingpong") == encode(frames.copy(), 12, "pingpong")


def test_gifs_repeat_for_ever() -> None:
    image = Image.open(io.BytesIO(encode_gif(_smooth(3), 10, "forward")))
    assert image.info["loop"] == 0


@pytest.mark.parametrize("size", [32, 33])
def test_mp4_holds_the_frames(size: int) -> None:
    import imageio.v3

    frames = _smooth(6, size)
    shown = np.stack(list(imageio.v3.imiter(encode_mp4(frames, 10, "forward"), plugin="FFMPEG", extension=".mp4")))
    assert len(shown) == 6
    assert _psnr(shown[:, :size, :size], frames) > 28


def test_webp_holds_the_frames() -> None:
    frames = _smooth(6)
    shown, _ = _read(encode_webp(frames, 10, "forward"))
    assert len(shown) == 6
    assert _psnr(shown, frames) > 30


@settings(deadline=None, max_examples=20)
@given(
    resample=st.sampled_from(["nearest", "bicubic", "lanczos"]),
    scale=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 20),
)
def test_enlarging_keeps_the_range_and_the_size(resample: str, scale: int, channels: int, seed: int) -> None:
    hard_edges = (np.random.default_rng(seed).random((6, 7, channels)) < 0.5).astype(np.uint8) * 255
    large = enlarge(hard_edges, scale, resample)
    assert large.shape == (6 * scale, 7 * scale, channels)
    assert large.dtype == np.uint8
    if resample == "nearest":
        assert np.array_equal(large[::scale, ::scale], hard_edges)
    flat = np.full((4, 4, channels), 255, np.uint8)
    assert (enlarge(flat, scale, resample) == 255).all()  # an overshoot that wrapped around would be dark


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_read_back_as_it_was(channels: int) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (5, 9, channels), dtype=np.uint8)
    assert np.array_equal(decode_png(encode_png(frame)), frame)


def test_zips_hold_their_files_and_are_repeatable() -> None:
    files = {"z_01.gif": b"one", "z_02.gif": b"two"}
    assert zip_files(files) == zip_files(dict(files))
    with zipfile.ZipFile(io.BytesIO(zip_files(files))) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), num=st.integers(1, 3000), colors=st.integers(2, 255))
def test_kmeans_never_makes_a_palette_worse_by_much(seed: int, num: int, colors: int) -> None:
    pixels = np.random.default_rng(seed).normal(128, 40, (num, 3)).clip(0, 255).astype(np.uint8)
    palette = shared_palette(pixels, colors)
    assert 1 <= len(palette) <= colors

    def error(candidate: Pixels) -> float:
        chosen = candidate[nearest_colors(pixels, candidate)].astype(float)
        return float(((chosen - pixels) ** 2).sum(1).mean())

    # The histogram's cells are 8 levels wide: below that error the rounds cannot tell better from worse.
    assert error(refine_palette(pixels, palette)) <= error(palette) * 1.1 + 16


def test_nearest_colors_are_nearest_up_to_the_cells_width() -> None:
    generator = np.random.default_rng(0)
    pixels, palette = (generator.integers(0, 256, (n, 3), dtype=np.uint8) for n in (4000, 100))
    distance = np.linalg.norm(pixels[:, None].astype(float) - palette, axis=2)
    found = distance[np.arange(len(pixels)), nearest_colors(pixels, palette)]
    # A cell is 8 levels wide, so that a pixel and the one that speaks for it differ by at most 7 in each channel.
    assert (found - distance.min(1)).max() <= 2 * np.sqrt(3) * 7


@given(seed=st.integers(0, 1000), num=st.integers(1, 50))
def test_nearest_colors_are_exact_where_each_cell_has_one_color(seed: int, num: int) -> None:
    generator = np.random.default_rng(seed)
    cells = generator.permutation(32**3)[:num]
    palette = np.stack([cells >> 10, cells >> 5 & 31, cells & 31], 1).astype(np.uint8) * 8
    palette += generator.integers(0, 8, palette.shape, dtype=np.uint8)
    chosen = generator.integers(0, num, 500)
    assert (nearest_colors(palette[chosen], palette) == chosen).all()
