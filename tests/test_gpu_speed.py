"""The parts of the GPU benchmark that a machine without a GPU can run."""

from pathlib import Path

import pytest

from benchmarks.gpu_speed import compare_images, config_of, noise_pack, rate_at_once, shared_rate

SMALL = {"image_size": 32, "latent_dim": 2, "batch_size": 4}


def test_the_rate_of_runs_at_once_counts_only_the_time_in_which_all_step() -> None:
    """The first run takes 10 images/s, and 30 once it is alone; the second one takes 5."""
    first = [(0.0, 0.0), (10.0, 100.0), (12.0, 160.0)]
    second = [(4.0, 0.0), (10.0, 30.0)]
    assert shared_rate([second]) == 5.0
    assert shared_rate([first, second]) == pytest.approx(15.0)
    with pytest.raises(ValueError, match="more steps"):
        shared_rate([first, [(13.0, 0.0), (14.0, 1.0)]])


def test_runs_at_once_and_held_sets_are_measured_by_the_code_of_the_gpu(tmp_path: Path) -> None:
    pack = noise_pack(tmp_path / "noise", num_images=60, image_size=32)
    held, copied = compare_images(pack, config_of("burgess", 24, **SMALL), 1, "cpu")
    assert held > 0 and copied > 0
    configs = [config_of("burgess", 240, seed=seed, **SMALL) for seed in range(2)]
    assert rate_at_once(pack, configs, "cpu") > 0
