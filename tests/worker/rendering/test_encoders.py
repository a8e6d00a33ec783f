"""Encoders: animations have the given frames in the requested order and time."""

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from frames_support import psnr, read_frames, smooth_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.rendering.encoders import (
    decode_png,
    encode_mp4,
    encode_png,
    encode_webp,
    enlarge,
    play_order,
    zip_files,
)
from worker.rendering.gif import encode_gif


@pytest.mark.parametrize("encode", [encode_gif, encode_webp])
@pytest.mark.parametrize("fps", [1, 15, 24, 50])
def test_an_animation_lasts_as_long_as_requested(encode: Any, fps: float) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    _, durations = read_frames(encode(frames, fps, "forward"))
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
    frames = smooth_frames(5, size=33)[..., :channels]
    assert encode(frames, 12, "pingpong") == encode(frames.copy(), 12, "pingpong")


@pytest.mark.parametrize("size", [32, 33])
def test_mp4_holds_the_frames(size: int) -> None:
    import imageio.v3

    frames = smooth_frames(6, size)
    shown = np.stack(list(imageio.v3.imiter(encode_mp4(frames, 10, "forward"), plugin="FFMPEG", extension=".mp4")))
    assert len(shown) == 6
    assert psnr(shown[:, :size, :size], frames) > 28


def test_webp_holds_the_frames() -> None:
    frames = smooth_frames(6)
    shown, _ = read_frames(encode_webp(frames, 10, "forward"))
    assert len(shown) == 6
    assert psnr(shown, frames) > 30


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
