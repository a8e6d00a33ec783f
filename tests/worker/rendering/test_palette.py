"""Palettes represent their pixels, and each pixel gets a nearest colour."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.rendering.palette import nearest_colors, refine_palette, shared_palette
from worker.rendering.request import Pixels


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), num=st.integers(1, 3000), colors=st.integers(2, 255))
def test_kmeans_never_makes_a_palette_worse_by_much(seed: int, num: int, colors: int) -> None:
    pixels = np.random.default_rng(seed).normal(128, 40, (num, 3)).clip(0, 255).astype(np.uint8)
    palette = shared_palette(pixels, colors)
    assert 1 <= len(palette) <= colors

    def error(candidate: Pixels) -> float:
        chosen = candidate[nearest_colors(pixels, candidate)].astype(float)
        return float(((chosen - pixels) ** 2).sum(1).mean())

    # The histogram's cells are 8 levels wide, so the rounds cannot compare palettes below that error.
    assert error(refine_palette(pixels, palette)) <= error(palette) * 1.1 + 16


def test_nearest_colors_are_nearest_up_to_the_cells_width() -> None:
    generator = np.random.default_rng(0)
    pixels, palette = (generator.integers(0, 256, (n, 3), dtype=np.uint8) for n in (4000, 100))
    distance = np.linalg.norm(pixels[:, None].astype(float) - palette, axis=2)
    found = distance[np.arange(len(pixels)), nearest_colors(pixels, palette)]
    # A cell is 8 levels wide, so a pixel differs by at most 7 in each channel from the pixel that represents it.
    assert (found - distance.min(1)).max() <= 2 * np.sqrt(3) * 7


@given(seed=st.integers(0, 1000), num=st.integers(1, 50))
def test_nearest_colors_are_exact_where_each_cell_has_one_color(seed: int, num: int) -> None:
    generator = np.random.default_rng(seed)
    cells = generator.permutation(32**3)[:num]
    palette = np.stack([cells >> 10, cells >> 5 & 31, cells & 31], 1).astype(np.uint8) * 8
    palette += generator.integers(0, 8, palette.shape, dtype=np.uint8)
    chosen = generator.integers(0, num, 500)
    assert (nearest_colors(palette[chosen], palette) == chosen).all()
