"""The built-in chairs: each factor is visible, each image is a chair on white, and the grid has its order."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import chairs

BASE = (5, 1, 2, 2, 2, 4)


def chair(image_size: int = 64, **factors: int) -> NDArray[np.float64]:
    classes = [factors.get(name, value) for name, value in zip(chairs.FACTOR_NAMES, BASE, strict=True)]
    image: NDArray[np.float64] = chairs.render(np.array([classes]), image_size)[0].astype(np.float64)
    return image


@pytest.mark.parametrize("factor", range(6))
def test_each_step_of_each_factor_changes_the_picture(factor: int) -> None:
    num_classes = chairs.FACTOR_SIZES[factor]
    classes = np.tile(BASE, (num_classes, 1))
    classes[:, factor] = np.arange(num_classes)
    images = chairs.render(classes).astype(float)
    for i in range(num_classes):
        for j in range(i):
            changed = np.abs(images[i] - images[j]).max(axis=2) > 40
            assert changed.sum() >= 20, f"{chairs.FACTOR_NAMES[factor]} {j} and {i} look the same"


def test_every_chair_fits_its_picture() -> None:
    extremes = [[a, e, leg, back, 3, 0] for a in range(0, 32, 3) for e in (0, 3) for leg in (0, 3) for back in (0, 3)]
    images = chairs.render(np.array(extremes))
    for edge in (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]):
        assert edge.min() > 245
    covered = (images.min(axis=3) < 128).mean(axis=(1, 2))
    assert covered.min() > 0.03


def rows_of_seat_and_top(image: NDArray[np.float64]) -> tuple[int, int]:
    """Returns the lowest and the highest row that show the chair's colour."""
    tinted = np.flatnonzero((image.max(axis=2) - image.min(axis=2) > 60).any(axis=1))
    return int(tinted[-1]), int(tinted[0])


def test_longer_legs_raise_the_seat_and_a_longer_back_raises_only_the_top() -> None:
    seats, tops = zip(*(rows_of_seat_and_top(chair(leg_height=i)) for i in range(4)), strict=True)
    assert list(seats) == sorted(seats, reverse=True)
    assert len(set(seats)) == 4
    backs = [rows_of_seat_and_top(chair(back_height=i)) for i in range(4)]
    assert len({seat for seat, _ in backs}) == 1
    assert len({top for _, top in backs}) == 4
    assert len(set(tops)) == 4


def test_a_wider_seat_is_wider() -> None:
    widths = [(chair(azimuth=0, seat_width=i).min(axis=2) < 200).any(axis=0).sum() for i in range(4)]
    assert widths == sorted(set(widths))


def test_the_hue_is_the_colour_of_seat_and_back_and_nothing_else() -> None:
    for hue in range(8):
        image = chair(hue=hue)
        other = chair(hue=(hue + 3) % 8)
        same = np.abs(image - other).max(axis=2) == 0
        assert 0.5 < same.mean() < 0.98
        brightest = image.reshape(-1, 3)[np.argmax(image.max(axis=2) - image.min(axis=2))]
        expected = np.array(chairs.hue_colour(hue))
        assert np.abs(brightest / brightest.max() - expected / expected.max()).max() < 0.03


def test_faces_are_shaded_differently() -> None:
    image = chair()
    tinted = image[image.max(axis=2) - image.min(axis=2) > 60]
    bright, dark = np.percentile(tinted.max(axis=1), [95, 10])
    assert bright - dark > 40


def test_half_a_turn_swaps_front_and_back() -> None:
    front, back = chair(azimuth=0), chair(azimuth=16)
    assert np.abs(front - front[:, ::-1]).max(axis=2).mean() < np.abs(front - back).max(axis=2).mean()


@pytest.mark.parametrize("image_size", [32, 64])
def test_blocks_come_in_canonical_order(image_size: int) -> None:
    block = next(chairs.render_all(image_size, num_workers=2))
    size = int(np.prod(chairs.FACTOR_SIZES[3:]))
    assert block.shape == (size, image_size, image_size, 3)
    chosen = np.arange(0, size, 25)
    classes = np.stack(np.unravel_index(chosen, chairs.FACTOR_SIZES), axis=1)
    assert np.array_equal(block[chosen], chairs.render(classes, image_size))


def test_sizes_show_the_same_chair() -> None:
    large, small = chair(128), chair(32)
    assert np.abs(large.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3)) - small).mean() < 3


@pytest.mark.parametrize("classes", [[[32, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, -1]], [[0, 0]], [0, 0, 0, 0, 0, 0]])
def test_wrong_classes_are_refused(classes: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="classes"):
        chairs.render(np.array(classes))
