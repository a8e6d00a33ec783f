"""Our dSprites equal the formulas, literal pictures, and the published ones if they are at hand."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from training.data import dsprites
from training.data.packs import factor_grid

KNOWN = {
    # shape, scale, orientation, x, y: first 16 hex digits of the sha256 of the 0/1 bytes
    (0, 0, 0, 0, 0): "ff85428fd96c1c34",
    (0, 5, 7, 31, 16): "fd729632831c88ed",
    (1, 2, 13, 8, 25): "b4b715657b221068",
    (1, 5, 39, 16, 0): "51e1dd6580bc7256",
    (2, 5, 0, 15, 15): "5de0f772e582c635",
    (2, 3, 22, 3, 28): "6af2a89f0a1b93f8",
}


def render_one(*classes: int, image_size: int = 64) -> np.ndarray:
    image: np.ndarray = dsprites.render(np.array([classes]), image_size)[0] > 0
    return image


@pytest.mark.parametrize("classes", KNOWN)
def test_literal_classes_give_known_pictures(classes: tuple[int, int, int, int, int]) -> None:
    assert hashlib.sha256(render_one(*classes).tobytes()).hexdigest()[:16] == KNOWN[classes]


def test_a_square_at_the_corner_position_is_a_filled_rectangle() -> None:
    # With scale 1, no rotation and centre 16, the pixel centres within 9.6 of it are 6.5 to 25.5.
    expected = np.zeros((64, 64), bool)
    expected[6:26, 6:26] = True
    image = render_one(0, 5, 0, 0, 0)
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    inside = np.abs(np.arange(64) + 0.5 - 16) < 9.6
    assert np.array_equal(image, inside[:, None] & inside[None, :])
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (6, 25, 6, 25)
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("orientation", [0, 5, 17])
def test_an_ellipse_follows_its_equation(orientation: int) -> None:
    theta, size = 2 * np.pi * orientation / 39, 0.8
    centre = np.arange(64) + 0.5
    dx, dy = centre[None, :] - (16 + 32 * 20 / 31), centre[:, None] - (16 + 32 * 9 / 31)
    u = (np.cos(theta) * dx - np.sin(theta) * dy) / size
    v = (np.sin(theta) * dx + np.cos(theta) * dy) / size
    assert np.array_equal(render_one(1, 3, orientation, 20, 9), (u / 12.75) ** 2 + (v / 7.2) ** 2 < 1)


def test_a_heart_follows_the_even_odd_rule_of_its_polygon() -> None:
    t = np.linspace(0, 2 * np.pi, 240, endpoint=False)
    px = 9.6 * np.sin(t) ** 3
    py = -0.66 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) - 1.45
    theta = 2 * np.pi * 11 / 39
    centre = np.arange(64) + 0.5
    dx, dy = centre[None, :] - (16 + 32 * 12 / 31), centre[:, None] - (16 + 32 * 18 / 31)
    u, v = np.cos(theta) * dx - np.sin(theta) * dy, np.sin(theta) * dx + np.cos(theta) * dy
    inside = np.zeros((64, 64), bool)
    for x0, y0, x1, y1 in zip(px, py, np.roll(px, -1), np.roll(py, -1), strict=True):
        if y0 != y1:
            inside ^= ((y0 > v) != (y1 > v)) & (u < x0 + (v - y0) * (x1 - x0) / (y1 - y0))
    assert inside.sum() > 150
    assert np.array_equal(render_one(2, 5, 11, 12, 18), inside)


def test_the_first_and_last_orientation_are_one_pose() -> None:
    for shape in range(3):
        assert (render_one(shape, 4, 0, 10, 20) != render_one(shape, 4, 39, 10, 20)).sum() <= 2


def test_scale_one_covers_four_times_scale_one_half() -> None:
    for shape in range(3):
        areas = [render_one(shape, scale, 3, 16, 16, image_size=128).sum() for scale in (0, 5)]
        assert areas[1] / areas[0] == pytest.approx(4, rel=0.08)


def test_x_moves_columns_and_y_moves_rows() -> None:
    centres = {}
    for x, y in ((2, 5), (30, 5), (2, 29)):
        rows, columns = np.nonzero(render_one(1, 3, 0, x, y))
        centres[x, y] = (columns.mean() + 0.5, rows.mean() + 0.5)
    for (x, y), (column, row) in centres.items():
        assert column == pytest.approx(16 + 32 * x / 31, abs=0.6)
        assert row == pytest.approx(16 + 32 * y / 31, abs=0.6)


@pytest.mark.parametrize(("image_size", "num_workers"), [(64, 1), (64, 3), (32, 1), (16, 1)])
def test_the_whole_set_comes_in_canonical_order(image_size: int, num_workers: int) -> None:
    blocks = dsprites.render_all(image_size, num_workers=num_workers)
    classes = factor_grid(dsprites.FACTOR_SIZES)
    for pose in range(3):
        block = next(blocks)
        assert block.shape == (1024, image_size, image_size)
        chosen = np.arange(0, 1024, 37)
        assert np.array_equal(block[chosen], dsprites.render(classes[1024 * pose + chosen], image_size))
    assert len(classes) == 737_280
    assert classes[-1].tolist() == [2, 5, 39, 31, 31]
    assert classes[1].tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("classes", [[[3, 0, 0, 0, 0]], [[0, 0, 0, 0, -1]], [[0, 0, 0, 0]], [0, 0, 0, 0, 0]])
def test_wrong_classes_are_refused(classes: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="classes"):
        dsprites.render(np.array(classes))


def test_published_pictures_differ_in_one_pixel_of_eleven_thousand() -> None:
    folder = os.environ.get("TEST_DATA")
    if not folder or not (Path(folder) / "dsprites100.npz").is_file():
        pytest.skip("TEST_DATA names no folder with dsprites100.npz")
    with np.load(Path(folder) / "dsprites100.npz") as real:
        wrong = (dsprites.render(real["classes"]) > 0) != (real["imgs"] > 0)
    assert wrong.sum() <= 36
    assert (~wrong.any(axis=(1, 2))).sum() >= 78
