"""Checkpoints: which one is the newest, which are kept, and what a damaged one does."""

from pathlib import Path

import pytest
import torch

from training.checkpoints import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)


def test_damaged_checkpoints_are_ignored(tmp_path: Path) -> None:
    for step in (1, 2):
        write_checkpoint(tmp_path, Checkpoint(step, {"a": torch.full((3,), float(step))}), fence=1)
    newest = list_checkpoints(tmp_path)[-1]
    description = newest.read_bytes()
    for path, torn in ((newest, b"\xff" + description[1:]), (newest.with_suffix(".safetensors"), b"torn")):
        whole = path.read_bytes()
        path.write_bytes(torn)
        with pytest.raises(CheckpointError):
            read_checkpoint(newest)
        path.write_bytes(whole)
    newest.with_suffix(".safetensors").write_bytes(b"torn")
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    assert found.tensors["a"].tolist() == [1, 1, 1]


def test_only_the_newest_checkpoints_are_kept_and_a_higher_fence_is_newer(tmp_path: Path) -> None:
    for step, fence in ((5, 1), (9, 1), (3, 2)):
        write_checkpoint(tmp_path, Checkpoint(step, {}), fence)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["00000009-1.json", "00000003-2.json"]


def test_the_checkpoint_that_is_written_stays(tmp_path: Path) -> None:
    """The best network of a run that was killed after step 20 and goes on from step 10."""
    for step in (20, 15):
        write_checkpoint(tmp_path, Checkpoint(step, {}), keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["00000015-0.json"]
