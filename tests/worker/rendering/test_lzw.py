"""GIFs are made by Pillow's private encoder as long as it works, and by its public writer otherwise."""

import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from frames_support import read_frames, smooth_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from worker.rendering import lzw
from worker.rendering.encoders import play_order
from worker.rendering.gif import encode_gif


@pytest.fixture(autouse=True)
def forget_the_encoder() -> Iterator[None]:
    lzw.has_fast_encoder.cache_clear()
    yield
    lzw.has_fast_encoder.cache_clear()


def _without_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    # Pillow's own modules keep their encoder, which its public writer needs.
    monkeypatch.setattr(lzw, "Image", SimpleNamespace(frombytes=Image.frombytes))


def _with_encoder(encoder: Any) -> Callable[[pytest.MonkeyPatch], None]:
    fake = SimpleNamespace(frombytes=Image.frombytes, _getencoder=encoder)
    return lambda monkeypatch: monkeypatch.setattr(lzw, "Image", fake)


class FakeEncoder:
    """An encoder with the same interface that gives other bytes."""

    def __init__(self, status: int) -> None:
        self._status = status

    def setimage(self, *arguments: Any) -> None:
        pass

    def encode(self, size: int) -> tuple[int, int, bytes]:
        return 1, self._status, b"\x01\x00"


changed = pytest.mark.parametrize(
    "change",
    [
        _without_encoder,
        _with_encoder(lambda mode, name: None),
        _with_encoder(lambda *arguments: FakeEncoder(1)),
        _with_encoder(lambda *arguments: FakeEncoder(-2)),
    ],
    ids=["missing", "other arguments", "other bytes", "failing"],
)


def test_the_installed_pillow_has_the_encoder_that_gifs_are_made_with() -> None:
    assert lzw.has_fast_encoder(), (
        f"Pillow {version('pillow')} has changed its private GIF encoder (Image._getencoder): GIFs are still right, "
        "but slower to make. Adapt _compress_directly in worker/rendering/lzw.py."
    )


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    levels=st.sampled_from([1, 2, 17, 256]),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_both_encoders_give_the_same_bytes(shape: tuple[int, int], levels: int, seed: int, data: st.DataObject) -> None:
    film = Image.fromarray(np.random.default_rng(seed).integers(0, levels, shape, dtype=np.uint8))
    top = data.draw(st.integers(0, shape[0] - 1))
    height = data.draw(st.integers(1, shape[0] - top))
    assert lzw._compress_by_saving(film, top, height) == lzw._compress_directly(film, top, height)


@changed
@pytest.mark.parametrize("channels", [1, 3])
def test_without_the_private_encoder_gifs_are_the_same(
    change: Callable[[pytest.MonkeyPatch], None],
    channels: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    frames = smooth_frames(13, size=33)[..., :channels]
    frames[3] = frames[2]  # a frame in which nothing changes
    expected = encode_gif(frames, 12, "pingpong")
    lzw.has_fast_encoder.cache_clear()
    change(monkeypatch)
    with caplog.at_level(logging.WARNING):
        found = encode_gif(frames, 12, "pingpong")
    assert not lzw.has_fast_encoder()
    assert found == expected
    assert ["public writer" in record.message for record in caplog.records] == [True]
    shown, _ = read_frames(found)
    assert len(shown) == len(play_order(13, "pingpong"))


def test_without_the_private_encoder_grey_frames_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 9, 11, 1), dtype=np.uint8)
    _without_encoder(monkeypatch)
    shown, durations = read_frames(encode_gif(frames, 10, "forward"))
    assert np.array_equal(shown, frames.repeat(3, -1))
    assert durations == [100] * 4
