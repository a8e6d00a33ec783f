"""The records of a run: metrics, TensorBoard events, previews, the model and the reports."""

import errno
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from packs_support import write_pack
from PIL import Image
from training_support import (
    SMALL,
    events_of,
    records_of,
    stop_at,
)

from models.files import load_model
from models.info import Preprocessing
from models.pixels import to_input
from training.data.packs import Pack, open_pack
from training.inputs import split_indices
from training.loop import train
from training.monitor import Progress
from training.objectives.losses import bernoulli_floor


def test_a_run_leaves_records_previews_pictures_and_a_model(pack: Pack, tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = train(SMALL, pack, run_folder=tmp_path, name="a model", on_progress=seen.append)
    assert result.outcome == "completed"
    assert [progress.step for progress in seen] == [4, 8, 12, 16, 20, 24]
    assert "validation_loss" in seen[-1].metrics
    assert seen[-1].num_steps == seen[-1].step
    assert seen[-1].eta_seconds == 0
    records = records_of(tmp_path)
    assert [r["step"] for r in records if "kl" in r] == [4, 8, 12, 16, 20, 24]
    assert [r["step"] for r in records if "validation_loss" in r] == [6, 12, 18, 24]
    assert sorted(p.name for p in (tmp_path / "previews").iterdir()) == [f"{step:08d}.png" for step in range(0, 25, 2)]
    assert iio.improps(tmp_path / "training.gif", extension=".gif").n_images == 13
    for name in ("training.gif", "capacity.png"):
        Image.open(tmp_path / name).verify()
    # TensorBoard's events equal the lines.
    events = [event for path in (tmp_path / "tensorboard").iterdir() for event in events_of(path)]
    assert {name for _, name, _ in events} > {"loss", "validation_loss", "kl_per_dimension/03", "preview"}
    for name in ("loss", "capacity", "validation_kl"):
        expected = {r["step"]: r[name] for r in records if name in r}
        assert {step: value for step, tag, value in events if tag == name} == pytest.approx(expected, rel=1e-6)
    loaded = load_model(tmp_path / "model")
    assert loaded.info == result.info
    assert loaded.info.dataset["digest"] == pack.info.digest
    assert loaded.info.preprocessing == SMALL.replace(num_channels=1).preprocessing
    assert len(loaded.info.kl_per_dimension) == 4


def test_a_record_is_in_tensorboards_file_before_it_is_reported(pack: Pack, tmp_path: Path) -> None:
    """A process that is killed with kill -9 cannot write its buffers."""
    config = SMALL.replace(preview_steps=0)
    found: list[int] = []

    def note(progress: Progress) -> None:
        (path,) = (tmp_path / "tensorboard").iterdir()
        found.append(max(step for step, _, _ in events_of(path)))

    train(config, pack, run_folder=tmp_path, on_progress=note, should_stop=stop_at(17))
    assert found == [4, 8, 12, 16]
    train(config, pack, run_folder=tmp_path)
    steps = [
        [step for step, name, _ in events_of(path) if name == "loss"]
        for path in sorted((tmp_path / "tensorboard").iterdir(), key=lambda path: int(path.suffix[1:]))
    ]
    assert steps == [[4, 8, 12, 16], [20, 24]]


def test_a_full_disk_ends_a_run_without_hanging(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter.flush", full)
    with pytest.raises(OSError, match="No space left"):
        train(SMALL, pack, run_folder=tmp_path)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_entropy_of_grey_images_stands_beside_a_bernoulli_loss(pack: Pack, tmp_path: Path, likelihood: str) -> None:
    images = np.asarray(pack.images) // 3
    write_pack(
        tmp_path / "grey",
        [images],
        name="grey",
        kind="array",
        source="test",
        preprocessing=Preprocessing(image_size=32),
    )
    grey = open_pack(tmp_path / "grey")
    config = SMALL.replace(likelihood=likelihood, num_steps=4, preview_steps=0)
    info = train(config, grey, run_folder=tmp_path / "run").info
    records = records_of(tmp_path / "run")
    assert info is not None
    logged = [r.get("bernoulli_floor") for r in records if "kl" in r]
    if likelihood == "gaussian":
        assert (logged, info.bernoulli_floor) == ([None], None)
        return
    # The records have the floor of the training split, and the model has that of the validation split.
    training, validation = (
        bernoulli_floor(to_input(images[indices], torch.device("cpu"))).item()
        for indices in split_indices(grey, config)
    )
    assert logged == [pytest.approx(training, rel=1e-5)]
    assert info.bernoulli_floor == pytest.approx(validation, rel=1e-5)
    assert 0 < validation <= (info.reconstruction_loss or 0)


def test_the_last_report_has_the_last_validation(pack: Pack, tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(SMALL.replace(validation_fraction=0.2), pack, run_folder=tmp_path, on_progress=seen.append)
    assert seen[-1].step == SMALL.num_steps
    records = records_of(tmp_path)
    last = [record["validation_loss"] for record in records if "validation_loss" in record][-1]
    assert seen[-1].metrics["validation_loss"] == last


def test_the_time_left_counts_the_images_that_a_batch_has(pack: Pack, tmp_path: Path) -> None:
    config = SMALL.replace(batch_size=4096, num_steps=8)
    seen: list[Progress] = []
    train(config, pack, run_folder=tmp_path, on_progress=seen.append)
    first = seen[0]
    assert first.images_per_second is not None
    assert first.eta_seconds == pytest.approx((8 - first.step) * 96 / first.images_per_second)


def test_a_long_runs_animation_has_a_hundred_frames(pack: Pack, tmp_path: Path) -> None:
    train(SMALL.replace(num_steps=150, preview_steps=1), pack, run_folder=tmp_path)
    frames = iio.imread(tmp_path / "training.gif", index=None)
    assert len(frames) == 100
    for frame, step in ((frames[0], 0), (frames[-1], 150)):
        shown = iio.imread(tmp_path / "previews" / f"{step:08d}.png")
        assert np.array_equal(frame, shown)
