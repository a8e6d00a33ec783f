"""GIFs have the given frames, as exactly as 255 colours allow, and repeat for ever."""

import io

import numpy as np
import pytest
from frames_support import psnr, read_frames, smooth_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from worker.rendering.encoders import play_order
from worker.rendering.gif import encode_gif
from worker.rendering.request import Pixels


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
    shown, _ = read_frames(encode_gif(frames, 10, loop))
    assert np.array_equal(shown, frames[play_order(num, loop)].repeat(3, -1))


def test_grey_gifs_of_all_256_levels_are_off_by_one_level_at_most() -> None:
    frames = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(2, 16, 16, 1)
    shown, _ = read_frames(encode_gif(frames, 10, "forward"))
    assert np.abs(shown.astype(int) - frames).max() == 1


def test_gifs_of_few_colours_look_the_same() -> None:
    colors = np.random.default_rng(1).integers(0, 256, (20, 3), dtype=np.uint8)
    frames = colors[np.random.default_rng(2).integers(0, 20, (4, 24, 24))]
    shown, _ = read_frames(encode_gif(frames, 10, "forward"))
    assert np.abs(shown.astype(int) - frames).max() <= 4


@pytest.mark.parametrize("noise", [0, 3])
def test_colour_gifs_are_as_good_as_median_cut_on_every_frame(noise: int) -> None:
    first, last = smooth_frames(2, noise=noise).astype(float)
    frames = np.stack([first + (last - first) * 0.1 * step / 9 for step in range(10)]).astype(np.uint8)
    ours = psnr(read_frames(encode_gif(frames, 10, "forward"))[0], frames)
    each = [
        np.asarray(Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE).convert("RGB")) for frame in frames
    ]
    assert ours > psnr(np.stack(each), frames)


def test_reserved_colours_are_exact() -> None:
    frames = smooth_frames(4)
    frames[:, 5:7, 5:7] = 214, 68, 44
    shown, _ = read_frames(encode_gif(frames, 10, "forward", [(214, 68, 44)]))
    assert np.array_equal(shown[:, 5:7, 5:7], frames[:, 5:7, 5:7])


def test_long_animations_keep_their_colours() -> None:
    frames = smooth_frames(17)
    shown, _ = read_frames(encode_gif(frames, 10, "forward"))
    assert len(shown) == 17
    # In the worst case, every frame has other colours, and a palette serves eight frames.
    assert psnr(shown, frames) > psnr(_median_cut(frames), frames) - 2


def _median_cut(frames: Pixels) -> Pixels:
    """Quantises each frame to 256 colours of its own, like imageio and Pillow."""
    images = [Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE).convert("RGB") for frame in frames]
    return np.stack([np.asarray(image) for image in images])


def test_gifs_repeat_for_ever() -> None:
    image = Image.open(io.BytesIO(encode_gif(smooth_frames(3), 10, "forward")))
    assert image.info["loop"] == 0


def test_pixels_that_stay_have_one_colour_in_every_frame() -> None:
    """The palette is refined three times while the moving half changes all its colours."""
    frames = smooth_frames(30)
    _, height, width, _ = frames.shape
    still = np.zeros((height, width), bool)
    still[:, : width // 2] = True
    frames[:, still] = frames[0, still]
    shown, _ = read_frames(encode_gif(frames, 10, "forward", [(214, 68, 44)], still))
    assert (shown[:, still] == shown[0, still]).all()
    assert psnr(shown[:, still], frames[:, still]) > 28
    without, _ = read_frames(encode_gif(frames, 10, "forward", [(214, 68, 44)]))
    assert (without[:, still] != without[0, still]).any()
