"""A set that a GPU holds: the same bits as batches of the mapped file, and only where there is room."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from training_support import SMALL, records_of, weights_of, with_objective

from training.data.packs import Pack
from training.inputs import held_images, images_for
from training.loop import train


@pytest.mark.parametrize(("objective", "num_threads"), [("factorvae", 1), ("controlled", 2)])
def test_a_run_on_held_images_has_the_same_bits(
    objective: str, num_threads: int, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One objective compares two batches, and the other one has a teacher after a restart."""
    torch.set_num_threads(num_threads)
    run = SMALL.replace(num_steps=12, batch_size=32, log_steps=1, preview_steps=0)
    settings = {"restart_step": 4, "restart_steps": 6, "restart_components": 2}
    small = {"discriminator_width": 16, "discriminator_layers": 2}
    config = with_objective(run, objective, **settings, **small)
    mapped = train(config, pack, run_folder=tmp_path / "mapped")
    asked = []

    def hold(images: NDArray[np.uint8], device: torch.device, num_taken: int) -> torch.Tensor:
        asked.append(num_taken)
        return held_images(images, device)

    monkeypatch.setattr("training.run.images_for", hold)
    held = train(config, pack, run_folder=tmp_path / "held")
    assert asked == [12 * 32]
    losses = [[record.get("loss") for record in records_of(tmp_path / name)] for name in ("held", "mapped")]
    assert losses[0] == losses[1]
    assert len(losses[0]) >= 12
    for name, weights in weights_of(mapped).items():
        assert torch.equal(weights_of(held)[name], weights), name


def test_images_are_held_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)
    images.flags.writeable = False
    monkeypatch.setattr("training.inputs._BLOCK_BYTES", 100)  # These are two images.
    held = held_images(images, torch.device("cpu"))
    assert held.dtype == torch.uint8
    assert np.array_equal(held.numpy(), images)


@pytest.mark.parametrize(
    ("device", "free_bytes", "num_taken", "is_held"),
    [
        ("cuda", 8 * 1000, 10, True),
        ("cuda", 8 * 1000 - 1, 10, False),
        ("cuda", 8 * 1000, 9, False),
        ("cpu", 8 * 1000, 10, False),
    ],
)
def test_a_set_is_held_where_there_is_room_and_use(
    device: str, free_bytes: int, num_taken: int, is_held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.zeros((10, 10, 10, 1), np.uint8)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (free_bytes, 10**9))
    monkeypatch.setattr("training.inputs.held_images", lambda images, _: torch.from_numpy(images))
    assert isinstance(images_for(images, torch.device(device), num_taken), torch.Tensor) == is_held
