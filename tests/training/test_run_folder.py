"""The folder of a run: a new run clears what an earlier one left there, and nothing else."""

from pathlib import Path
from unittest.mock import Mock

import imageio.v3 as iio
import pytest
from training_support import SMALL, stop_at

from training.checkpoints import (
    list_checkpoints,
)
from training.data.packs import Pack
from training.loop import train
from training.monitor import Progress


def test_a_folder_whose_clearing_was_killed_is_cleared_by_the_next_run(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(SMALL, pack, run_folder=tmp_path)
    with monkeypatch.context() as context:
        context.setattr("shutil.rmtree", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(SMALL.replace(seed=1), pack, run_folder=tmp_path, resume=False)
    assert train(SMALL.replace(seed=1), pack, run_folder=tmp_path, resume=False).outcome == "completed"
    assert train(SMALL.replace(seed=1), pack, run_folder=tmp_path).resumed_from_step == SMALL.num_steps


def test_a_run_that_died_before_its_first_checkpoint_leaves_nothing_to_the_next(pack: Pack, tmp_path: Path) -> None:
    def die(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SMALL, pack, run_folder=tmp_path, on_progress=die)
    assert list((tmp_path / "previews").iterdir())
    # Pictures of another size would not fit into one animation.
    result = train(SMALL.replace(latent_dim=6), pack, run_folder=tmp_path)
    assert result.outcome == "completed"
    assert iio.improps(tmp_path / "training.gif", extension=".gif").n_images == 13


def test_a_run_without_records_is_recognised_by_its_checkpoints(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    train(SMALL, pack, run_folder=tmp_path, resume=False, should_stop=stop_at(10))
    assert train(SMALL, pack, run_folder=tmp_path).resumed_from_step == 10


def test_only_the_folder_of_a_run_is_cleared(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "mine.txt").write_text("mine")
    train(SMALL.replace(num_steps=4), pack, run_folder=tmp_path / "run", resume=False)
    assert (tmp_path / "run" / "model" / "mine.txt").exists()
    # A link is removed, but its target stays.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.txt").write_text("kept")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "metrics.jsonl").touch()
    (tmp_path / "linked" / "checkpoints").symlink_to(tmp_path / "elsewhere")
    train(SMALL.replace(num_steps=4), pack, run_folder=tmp_path / "linked", resume=False)
    assert (tmp_path / "elsewhere" / "kept.txt").exists()


def test_a_run_does_not_start_from_a_model_in_its_own_folder(pack: Pack, tmp_path: Path) -> None:
    train(SMALL.replace(num_steps=4), pack, run_folder=tmp_path)
    with pytest.raises(ValueError, match="initial weights"):
        train(SMALL, pack, run_folder=tmp_path, resume=False, initial_weights=tmp_path / "model")
    assert (tmp_path / "model" / "model.json").exists()


def test_a_run_that_begins_anew_removes_the_earlier_one(pack: Pack, tmp_path: Path) -> None:
    train(SMALL, pack, run_folder=tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    shorter = SMALL.replace(num_steps=10, seed=1)
    train(shorter, pack, run_folder=tmp_path / "run", resume=False, should_stop=stop_at(5))
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["00000005-0.json"]
    assert not (tmp_path / "run" / "model").exists()
    again = train(shorter, pack, run_folder=tmp_path / "run")
    assert again.resumed_from_step == 5
    train(shorter, pack, run_folder=tmp_path / "fresh")
    for name in ("previews", "best"):
        found, expected = (sorted(p.name for p in (tmp_path / run / name).iterdir()) for run in ("run", "fresh"))
        assert found == expected
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
