"""A run that is asked to finish cools down from where it is, and ends as a completed one."""

from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from training_support import SMALL, weights_of, with_objective

from training.data.packs import Pack
from training.inputs import typical_image
from training.loop import FINISH, train
from training.monitor import Progress
from training.pictures import capacity_figure
from training.schedules import LEAST_FINISHING_STEPS, Finishing

LONG = SMALL.replace(num_steps=10_000, validation_steps=50, preview_steps=50, log_steps=20)


def finishing_after(num_calls: int, *, pause_at: int | None = None) -> Callable[[], str | None]:
    """Returns a should_stop that asks to finish after so many calls, and once to pause."""
    calls = 0

    def should_stop() -> str | None:
        nonlocal calls
        calls += 1
        if calls == pause_at:
            return "pause"
        return FINISH if calls > num_calls else None

    return should_stop


@pytest.mark.parametrize(("step", "end"), [(0, 100), (100, 200), (400, 500), (1000, 1250), (8000, None), (9000, None)])
def test_the_cooldown_takes_a_quarter_of_the_steps_done_unless_the_end_is_nearer(step: int, end: int | None) -> None:
    expected = None if end is None else Finishing(step, end)
    assert Finishing.after(step, 10_000) == expected


def test_the_rate_falls_linearly_from_what_it_was() -> None:
    cooldown = Finishing(begin=400, end=500)
    assert [cooldown.factor(step) for step in (400, 450, 475, 500)] == [1.0, 0.5, 0.25, 0.0]


def test_a_finished_run_is_completed_with_a_model_and_its_pictures(pack: Pack, tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = train(LONG, pack, run_folder=tmp_path, should_stop=finishing_after(30), on_progress=seen.append)
    assert (result.outcome, result.step) == ("completed", 30 + LEAST_FINISHING_STEPS)
    assert result.info is not None
    assert seen[-1].step == seen[-1].num_steps == result.step
    assert seen[0].num_steps == LONG.num_steps
    rates = [progress.metrics["learning_rate"] for progress in seen]
    assert rates[0] == LONG.learning_rate
    assert rates[-1] == pytest.approx(LONG.learning_rate / LEAST_FINISHING_STEPS)
    assert (tmp_path / "training.gif").is_file()
    assert (tmp_path / "capacity.png").is_file()


def test_stopping_in_the_cooldown_and_going_on_changes_no_bit(pack: Pack, tmp_path: Path) -> None:
    whole = train(LONG, pack, run_folder=tmp_path / "whole", should_stop=finishing_after(30))
    stopped = train(LONG, pack, run_folder=tmp_path / "parts", should_stop=finishing_after(30, pause_at=60))
    assert stopped.outcome == "stopped"
    resumed = train(LONG, pack, run_folder=tmp_path / "parts")
    assert (resumed.outcome, resumed.step) == ("completed", whole.step)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(whole).values(), weights_of(resumed).values(), strict=True))


def test_a_restart_that_lies_ahead_does_not_come_any_more(pack: Pack, tmp_path: Path) -> None:
    config = with_objective(LONG, "controlled", restart_step=60)
    train(config, pack, run_folder=tmp_path, should_stop=finishing_after(30))
    reached = sorted(int(path.stem) for path in (tmp_path / "previews").glob("*.png"))
    assert reached == [0, 50, 100, 130]
    resumed = train(config, pack, run_folder=tmp_path)
    assert resumed.step == 130


def test_a_request_to_finish_while_lessons_are_computed_does_not_hang(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.teaching._STOPPABLE", 1)
    config = with_objective(LONG, "controlled", restart_step=4, restart_steps=5000, beta_start=1.0).replace(
        encoder_start="alive"
    )
    result = train(config, pack, run_folder=tmp_path, should_stop=finishing_after(6))
    assert result.outcome == "completed"


def test_pictures_are_there_while_the_run_goes_on(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.recorder._DRAWING_SECONDS", 0.0)
    calls = 0

    def should_stop() -> str | None:
        nonlocal calls
        calls += 1
        return "pause" if calls == 120 else None

    assert train(LONG, pack, run_folder=tmp_path, should_stop=should_stop).outcome == "stopped"
    assert iio.improps(tmp_path / "training.gif", extension=".gif").n_images == 3
    assert iio.immeta(tmp_path / "training.gif", extension=".gif")["duration"] < 3000, "the first frame"
    assert (tmp_path / "capacity.png").is_file()


def test_a_typical_image_is_the_one_nearest_to_the_mean() -> None:
    images = np.zeros((5, 16, 16, 1), np.uint8)
    for k, value in enumerate((0, 90, 100, 200, 255)):
        images[k] = value
    assert typical_image(images, np.arange(5)) == 2  # The mean is 129.
    assert typical_image(images, np.array([0, 3, 4])) == 3  # The mean is 152.


def test_the_figure_has_no_empty_half_where_c_jumps() -> None:
    """Against C the figure shows the ramp alone, until the restart at which C jumps."""
    records = [
        {"step": step, "capacity": step / 100 if step <= 500 else 25.0, "kl_per_dimension": [step / 200, 0.0]}
        for step in range(100, 2001, 100)
    ]
    both = iio.imread(capacity_figure(records, restart_step=500), extension=".png")
    constant = [{**record, "capacity": 25.0} for record in records]
    one = iio.imread(capacity_figure(constant, restart_step=None), extension=".png")
    # The right half of the first has a panel of its own: an axis where the second has none.
    assert (np.asarray(both)[:, 640:660, :3] < 100).all(2).sum() > (np.asarray(one)[:, 640:660, :3] < 100).all(2).sum()
    # Nor has it one where no dimension has learnt anything before the restart.
    late = [
        {"step": step, "capacity": min(25.0, step / 100), "kl_per_dimension": [max(0, step - 500) / 200, 0.0]}
        for step in range(100, 2001, 100)
    ]
    alone = iio.imread(capacity_figure(late, restart_step=500), extension=".png")
    assert (np.asarray(alone)[:, 640:660, :3] < 100).all(2).sum() < (np.asarray(both)[:, 640:660, :3] < 100).all(
        2
    ).sum()
