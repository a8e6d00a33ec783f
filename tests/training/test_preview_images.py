"""The images that previews of a run show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from training_support import SMALL, stop_at

from models.pixels import to_input
from training.checkpoints import newest_checkpoint
from training.data.packs import Pack
from training.inputs import typical_image
from training.loop import train
from training.pictures import PREVIEW_IMAGES, PreviewImages
from training.run import Run

CPU = torch.device("cpu")


def nearest_code(run: Run) -> int:
    """Returns the index of the shown image whose code is nearest to the mean code."""
    indices = run.shown_indices
    codes = run.network.encode(to_input(run.pack.images[indices], CPU))[0]
    return int(indices[int((codes - codes.mean(0)).square().sum(1).argmin())])


@torch.no_grad()
def test_the_first_image_is_typical_by_its_pixels_and_later_by_its_code(pack: Pack) -> None:
    run = Run(SMALL, pack, CPU)
    previews = PreviewImages(pack.images, run.shown_indices)
    by_pixels, by_codes = typical_image(pack.images, run.shown_indices), nearest_code(run)
    assert by_pixels != by_codes, "otherwise this test shows nothing"
    early = previews.of(run.network, CPU, step=7, num_steps=24)
    late = previews.of(run.network, CPU, step=8, num_steps=24)
    assert torch.equal(early[0], to_input(pack.images[[by_pixels]], CPU)[0])
    assert torch.equal(late[0], to_input(pack.images[[by_codes]], CPU)[0])
    assert previews.by_codes == by_codes
    for shown in (early, late):
        assert len(shown) == PREVIEW_IMAGES
        assert len({image.numpy().tobytes() for image in shown}) == PREVIEW_IMAGES, "no image comes twice"


def test_a_resumed_run_goes_on_with_the_image_that_its_codes_chose(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(preview_steps=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(config, pack, run_folder=whole)
    train(config, pack, run_folder=parts, should_stop=stop_at(15))
    stopped = newest_checkpoint(parts / "checkpoints")
    assert stopped is not None
    assert stopped.step == 15
    assert isinstance(stopped.state["typical_image"], int)
    train(config, pack, run_folder=parts)
    names = sorted(path.name for path in (whole / "previews").glob("*.png"))
    assert len(names) == 13
    for name in names:
        assert (parts / "previews" / name).read_bytes() == (whole / "previews" / name).read_bytes()


@pytest.mark.parametrize("count", [1, 3])
def test_small_sets_show_all_their_images(count: int, pack: Pack) -> None:
    run = Run(SMALL, pack, CPU)
    previews = PreviewImages(pack.images, np.arange(count))
    assert len(previews.of(run.network, CPU, step=24, num_steps=24)) == count
