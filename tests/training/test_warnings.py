"""Warnings about a run."""

from typing import Any

import pytest
from training_support import SMALL

from training.config import TrainingConfig
from training.monitor import Watch
from training.objectives.ramp import CapacityRamp

METRICS = {"loss": 4100.0, "kl": 0.0, "reconstruction_loss": 100.0, "capacity": 4.0, "kl_per_dimension": [0.0] * 4}
AT_CAPACITY = METRICS | {"kl": 4.0, "kl_per_dimension": [1.0] * 4}
CAPACITY = SMALL.replace(objective="capacity", num_steps=10_000, capacity_steps=100)
STEERED = SMALL.replace(num_steps=10_000, capacity_steps=100, restart_step=200)
BELOW_CAPACITY = METRICS | {"kl": 1.0, "kl_per_dimension": [0.25] * 4, "beta": 1.0}


def watch_of(config: TrainingConfig, *, num_validation_images: int = 1, num_images: int | None = None) -> Watch:
    """Returns the watch of a run whose lengths are in steps."""
    objective = config.objective
    final_capacity = objective.capacity_at(config.num_steps) if isinstance(objective, CapacityRamp) else None
    return Watch(
        config,
        num_validation_images=num_validation_images,
        num_images=num_images,
        final_capacity=final_capacity,
    )


def warnings_of(config: TrainingConfig, step: int, metrics: dict[str, Any]) -> list[str]:
    """Returns the warnings about the first record of a run."""
    return watch_of(config).look(step, metrics)


def test_each_warning_comes_once() -> None:
    watch = watch_of(CAPACITY)
    warnings = watch.look(5_000, METRICS)
    assert any("far from its capacity" in text for text in warnings)
    assert any("more than half of the reconstruction loss" in text for text in warnings)
    assert any("collapsed" in text for text in warnings)
    assert watch.look(5_001, METRICS) == []


def test_a_gamma_that_dwarfs_the_reconstruction_loss_is_found_by_the_mean_penalty() -> None:
    """Swings about C cancel out of the mean KL, but not out of the mean penalty."""
    assert warnings_of(CAPACITY, 5_000, AT_CAPACITY | {"loss": 149.0}) == []
    assert len(warnings_of(CAPACITY, 5_000, AT_CAPACITY | {"loss": 151.0})) == 1


def test_the_floor_of_grey_images_does_not_count_as_reconstruction_loss() -> None:
    grey = AT_CAPACITY | {"reconstruction_loss": 1100.0, "loss": 1151.0}
    assert warnings_of(CAPACITY, 5_000, grey) == []
    (warning,) = warnings_of(CAPACITY, 5_000, grey | {"bernoulli_floor": 1000.0})
    assert "above its floor (100)" in warning


@pytest.mark.parametrize("components", [0, 2])
def test_a_controlled_kl_below_its_capacity_gives_a_warning_at_the_end(components: int) -> None:
    watch = watch_of(STEERED.replace(restart_components=components))
    assert watch.look(9_999, BELOW_CAPACITY) == []  # It may still rise.
    (warning,) = watch.look(10_000, BELOW_CAPACITY)
    assert "would not lower the reconstruction loss enough" in warning
    assert ("restart_components" in warning) == (components == 0)


def test_a_beta_that_is_still_falling_at_the_end_gives_a_warning() -> None:
    assert "still falling" in warnings_of(STEERED, 10_000, BELOW_CAPACITY | {"beta": 3.0})[0]


def test_a_ramp_that_outlasts_the_run_gives_a_warning() -> None:
    watch = Watch(CAPACITY.replace(capacity_steps=20_000), num_validation_images=1, final_capacity=2.0)
    (warning,) = watch.look(50, AT_CAPACITY | {"loss": 100.0, "capacity": 0.01})
    assert warning == "the run ends before C has reached 4 nats: capacity_steps is 20000"


def test_a_beta_whose_fall_outlasts_the_run_gives_a_warning() -> None:
    short = SMALL.replace(objective="annealed", num_steps=100, anneal_steps=200)
    assert "before β has fallen" in warnings_of(short, 50, AT_CAPACITY)[0]
    flat = SMALL.replace(objective="annealed", num_steps=100, beta_start=4.0, beta=4.0)
    assert not any("has fallen" in text for text in warnings_of(flat, 50, AT_CAPACITY))


def test_a_restart_after_the_end_gives_a_warning() -> None:
    late = SMALL.replace(restart_step=24, capacity_steps=1, learning_rate_schedule="plateau")
    assert any("before its restart" in text for text in warnings_of(late, 4, AT_CAPACITY))
    assert warnings_of(late.replace(restart_step=23), 4, AT_CAPACITY) == []


def test_settings_of_a_restart_that_never_comes_give_a_warning() -> None:
    without = SMALL.replace(objective="annealed", anneal_steps=1, restart_components=2, restart_axes="independent")
    warning = "without a restart the run does not read restart_components, restart_axes"
    assert warning in warnings_of(without, 4, AT_CAPACITY)
    assert warning not in warnings_of(without.replace(restart_step=5), 4, AT_CAPACITY)


def test_a_plateau_schedule_without_validation_gives_a_warning() -> None:
    config = SMALL.replace(restart_step=23, capacity_steps=1, learning_rate_schedule="plateau")
    warning = "without validation images"
    assert any(warning in text for text in watch_of(config, num_validation_images=0).look(4, AT_CAPACITY))
    assert not any(warning in text for text in watch_of(config, num_validation_images=1).look(4, AT_CAPACITY))


def test_a_low_learning_rate_of_adadelta_gives_a_warning() -> None:
    slow = SMALL.replace(optimizer="adadelta", capacity_steps=1)
    assert any("hardly learns" in text for text in warnings_of(slow, 4, AT_CAPACITY))
    fast = slow.replace(learning_rate=1.0)
    assert not any("hardly learns" in text for text in warnings_of(fast, 4, AT_CAPACITY))


def test_a_set_of_few_pictures_gives_a_warning() -> None:
    watch = watch_of(STEERED, num_images=5)
    (warning,) = watch.look(4, AT_CAPACITY)
    assert "only 5 pictures" in warning
    assert watch.look(8, AT_CAPACITY) == []
    assert watch_of(STEERED, num_images=200).look(4, AT_CAPACITY) == []


def test_pictures_that_are_hardly_explained_give_a_warning_at_the_end() -> None:
    last = {"validation_explained_variance": 0.744}
    assert warnings_of(STEERED, 9_999, AT_CAPACITY | last) == []
    (warning,) = warnings_of(STEERED, 10_000, AT_CAPACITY | last)
    assert "explain only 74% of what differs" in warning
    assert warnings_of(STEERED, 10_000, AT_CAPACITY | {"validation_explained_variance": 0.75}) == []
    (warning,) = warnings_of(STEERED, 10_000, AT_CAPACITY | {"validation_explained_variance": -2.76})
    assert "explain nothing of what differs" in warning
