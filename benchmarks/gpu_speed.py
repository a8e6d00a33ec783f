"""Measures images per second of our loop on a GPU: how its passes are launched, where its images lie, runs at once.

    python -m benchmarks.gpu_speed [--steps 3000] [--rounds 3] [--members 1 2 3 4]

The runs use random colour pictures of 64×64, batch 64 and β 4; the times include data and records. The first table
compares passes recorded as one graph with passes launched kernel by kernel, and the second a set that is held on the
GPU with one whose batches are copied; both sides alternate, and the tables show medians over the rounds. The third
table has several runs at once on the one GPU, each in a process of its own, as the members of a sweep are with as many
training workers.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from models.info import Preprocessing
from training.config import TrainingConfig
from training.data.pack_writer import PackWriter
from training.data.packs import Pack, open_pack
from training.inputs import held_images
from training.loop import train
from training.monitor import Progress

NUM_IMAGES = 20_000
GPU = "cuda:0"


def config_of(architecture: str, num_steps: int, **settings: Any) -> TrainingConfig:
    """Returns the settings of a measured run."""
    measured = {
        "architecture": architecture,
        "num_channels": 3,
        "objective": "beta",
        "num_steps": num_steps,
        "log_steps": max(1, num_steps // 12),
        "validation_steps": num_steps,
        "validation_fraction": 0.01,
        "preview_steps": 0,
    }
    return TrainingConfig(**measured | settings)


def noise_pack(folder: Path, num_images: int = NUM_IMAGES, image_size: int = 64) -> Pack:
    """Writes a set of random colour pictures."""
    images = np.random.default_rng(0).integers(0, 256, (num_images, image_size, image_size, 3), dtype=np.uint8)
    with PackWriter(folder, Preprocessing(image_size=image_size, num_channels=3)) as writer:
        writer.add(images)
        writer.finish(name="noise", kind="array", source="")
    return open_pack(folder)


def rate(pack: Pack, config: TrainingConfig, device: str = GPU) -> float:
    """Returns the images per second of a run, as the median of all records except the first."""
    rates: list[float] = []

    def note(progress: Progress) -> None:
        if progress.images_per_second is not None:
            rates.append(progress.images_per_second)

    with tempfile.TemporaryDirectory() as folder:
        train(config, pack, run_folder=Path(folder), device=device, on_progress=note)
    return statistics.median(rates[1:])


def kernel_by_kernel(module: Callable[..., Any], _: tuple[torch.Tensor, ...]) -> Callable[..., Any]:
    """Replaces torch.cuda.make_graphed_callables, and returns the module without recording it."""
    return module


def compare(rounds: int, one: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """Measures two ways in turn, and returns the medians of both."""
    pairs = [(one(), other()) for _ in range(rounds)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def compare_passes(pack: Pack, config: TrainingConfig, rounds: int) -> tuple[float, float]:
    """Returns the images per second of runs whose passes are recorded, and of runs that launch each kernel."""

    def launched() -> float:
        with patch("torch.cuda.make_graphed_callables", kernel_by_kernel):
            return rate(pack, config)

    return compare(rounds, lambda: rate(pack, config), launched)


def compare_images(pack: Pack, config: TrainingConfig, rounds: int, device: str = GPU) -> tuple[float, float]:
    """Returns the images per second of runs whose set is held on the device, and of runs that copy each batch."""

    def held() -> float:
        with patch("training.run.images_for", lambda images, device, _: held_images(images, device)):
            return rate(pack, config, device)

    def copied() -> float:
        with patch("training.run.images_for", lambda images, *_: images):
            return rate(pack, config, device)

    return compare(rounds, held, copied)


_start: Any = None
"""Barrier at which the processes of a measurement wait for each other."""


def _wait_at(barrier: Any) -> None:
    global _start
    _start = barrier


def member(folder: str, config: TrainingConfig, device: str) -> list[tuple[float, float]]:
    """Trains one of several runs at once. Returns the time of each record, in seconds, with the images until then."""
    _start.wait()
    records: list[tuple[float, float]] = []

    def note(progress: Progress) -> None:
        records.append((time.time(), float(progress.step * config.batch_size)))

    with tempfile.TemporaryDirectory() as run_folder:
        train(config, open_pack(Path(folder)), run_folder=Path(run_folder), device=device, on_progress=note)
    return records


def rate_at_once(pack: Pack, configs: Sequence[TrainingConfig], device: str = GPU) -> float:
    """Returns the images per second of all runs together, one process each, over the time in which all of them step."""
    # CUDA does not survive a fork.
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(configs))
    with ProcessPoolExecutor(len(configs), context, _wait_at, (barrier,)) as pool:
        begun = [pool.submit(member, str(pack.folder), config, device) for config in configs]
        return shared_rate([run.result() for run in begun])


def shared_rate(runs: Sequence[Sequence[tuple[float, float]]]) -> float:
    """Returns the sum of all runs' images per second between the last first record and the first last one.

    Raises:
        ValueError: The runs were never all under way; they need more steps.
    """
    begin, end = max(run[0][0] for run in runs), min(run[-1][0] for run in runs)
    if begin >= end:
        raise ValueError("the runs were never all under way at once; take more steps")
    total = 0.0
    for run in runs:
        times, images = np.array(run).T
        total += float(np.diff(np.interp([begin, end], times, images))[0]) / (end - begin)
    return total


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="steps per run (default: 3000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs per network and way (default: 3)")
    parser.add_argument(
        "--members", type=int, nargs="+", default=[1, 2, 3, 4], help="numbers of runs at once (default: 1 2 3 4)"
    )
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("gpu_speed: PyTorch finds no GPU")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, batch 64, 3×64×64")
    with tempfile.TemporaryDirectory() as folder:
        pack = noise_pack(Path(folder) / "noise")
        print("| network | recorded, images/s | kernel by kernel | ratio |\n|---|---|---|---|")
        for architecture in ("burgess", "higgins"):
            _row(architecture, *compare_passes(pack, config_of(architecture, arguments.steps), arguments.rounds))
        print("\n| network | set held on the GPU, images/s | batches copied | ratio |\n|---|---|---|---|")
        for architecture in ("burgess", "higgins"):
            _row(architecture, *compare_images(pack, config_of(architecture, arguments.steps), arguments.rounds))
        print("\n| runs at once | images/s in all | against one |\n|---|---|---|")
        alone = 0.0
        for count in arguments.members:
            configs = [config_of("burgess", arguments.steps, seed=seed) for seed in range(count)]
            together = rate_at_once(pack, configs)
            alone = alone or together / count
            print(f"| {count} | {together:.0f} | {together / alone:.2f}× |", flush=True)


def _row(name: str, ours: float, theirs: float) -> None:
    print(f"| {name} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f}× |", flush=True)


if __name__ == "__main__":
    main()
