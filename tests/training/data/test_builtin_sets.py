"""Sets that our own code draws come with their factors and colours."""

import math
from pathlib import Path

import numpy as np
import pytest
from datasets_support import packed

from training.data import dsprites
from training.data.datasets import BuiltIn, DatasetError
from training.data.images import Preprocessing


@pytest.mark.parametrize("name", ["dsprites", "dsprites_color", "chairs"])
def test_built_in_sets_have_their_factors(tmp_path: Path, name: str) -> None:
    preprocessing = Preprocessing(image_size=32, num_channels=1 if name == "dsprites" else 3)
    seen: list[tuple[int, int]] = []
    source = BuiltIn(name, max_images=60)
    pack = packed(source, tmp_path, preprocessing, on_progress=lambda *p: seen.append(p))
    info = pack.info
    assert (info.kind, info.num_images, info.full_grid) == ("builtin", 60, False)
    assert pack.factors is not None
    assert pack.factors.shape == (60, len(info.factor_names))
    assert (pack.factors.max(axis=0) < np.array(info.factor_sizes)).all()
    assert len(np.unique(pack.factors, axis=0)) == 60
    assert all(len(np.unique(image)) > 1 for image in pack.images)
    assert seen[-1] == (60, 60)


def test_coloured_dsprites_have_one_bright_colour_each_and_keep_it(tmp_path: Path) -> None:
    pack = packed(BuiltIn("dsprites_color", max_images=50), tmp_path, Preprocessing(image_size=32, num_channels=3))
    grey = packed(BuiltIn("dsprites", max_images=50), tmp_path / "g", Preprocessing(image_size=32, num_channels=1))
    colours = []
    for image, mask in zip(pack.images, grey.images[..., 0] > 0, strict=True):
        assert (image[~mask] == 0).all()
        (colour,) = np.unique(image[mask], axis=0)
        assert colour.min() >= 127
        colours.append(tuple(colour.tolist()))
    assert len(set(colours)) == 50
    fewer = packed(
        BuiltIn("dsprites_color", max_images=10), tmp_path / "f", Preprocessing(image_size=32, num_channels=3)
    )
    assert np.array_equal(fewer.images, pack.images[::5])


def test_a_whole_grid_is_marked_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (1, 1, 1, 32, 32)
    monkeypatch.setattr(dsprites, "FACTOR_SIZES", sizes)
    pack = packed(BuiltIn("dsprites"), tmp_path, Preprocessing(image_size=16, num_channels=3))
    assert (pack.info.full_grid, pack.info.num_images) == (True, math.prod(sizes))
    assert pack.factors is not None
    assert np.array_equal(pack.images[500, :, :, 1], dsprites.render(pack.factors[500:501], 16)[0])


def test_an_unknown_built_in_set_is_refused() -> None:
    with pytest.raises(DatasetError, match="dsprites"):
        BuiltIn("imagenet")
