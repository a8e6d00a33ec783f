"""Measures images per second of our loop on a GPU, with passes recorded as one graph and launched kernel by kernel.

    python -m benchmarks.gpu_speed [--steps 3000] [--rounds 3]

The runs use random colour pictures of 64×64, batch 64 and β 4, and alternate; the times include data and records. The
table shows medians over the rounds.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from models.info import Preprocessing
from training.config import TrainingConfig
from training.data.pack_writer import PackWriter
from training.data.packs import Pack, open_pack
from training.loop import train
from training.monitor import Progress

NUM_IMAGES = 20_000


def rate(pack: Pack, config: TrainingConfig) -> float:
    """Returns the images per second of a run, as the median of all records except the first."""
    rates: list[float] = []

    def note(progress: Progress) -> None:
        rates.append(progress.images_per_second)

    with tempfile.TemporaryDirectory() as folder:
        train(config, pack, run_folder=Path(folder), device="cuda:0", on_progress=note)
    return statistics.median(rates[1:])


def kernel_by_kernel(module: Callable[..., Any], _: tuple[torch.Tensor, ...]) -> Callable[..., Any]:
    """Replaces torch.cuda.make_graphed_callables, and returns the module without recording it."""
    return module


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3000, help="steps per run (default: 3000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs per network and way (default: 3)")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("gpu_speed: PyTorch finds no GPU")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}, batch 64, 3×64×64")
    print("| network | recorded, images/s | kernel by kernel | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 64, 64, 3), dtype=np.uint8)
        preprocessing = Preprocessing(image_size=64, num_channels=3)
        with PackWriter(Path(folder) / "noise", preprocessing) as writer:
            writer.add(images)
            writer.finish(name="noise", kind="array", source="")
        pack = open_pack(Path(folder) / "noise")
        for architecture in ("burgess", "higgins"):
            config = TrainingConfig(
                architecture=architecture,
                num_channels=3,
                objective="beta",
                num_steps=arguments.steps,
                log_steps=max(1, arguments.steps // 12),
                validation_steps=arguments.steps,
                validation_fraction=0.01,
                preview_steps=0,
            )
            recorded, launched = [], []
            for _ in range(arguments.rounds):
                recorded.append(rate(pack, config))
                with patch("torch.cuda.make_graphed_callables", kernel_by_kernel):
                    launched.append(rate(pack, config))
            ours, theirs = statistics.median(recorded), statistics.median(launched)
            print(f"| {architecture} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f}× |", flush=True)


if __name__ == "__main__":
    main()
