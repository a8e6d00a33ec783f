"""Compares our training loop with the plain PyTorch way, and our step with this machine's matrix products.

    python -m benchmarks.training_speed [--steps 60] [--threads N]

(a) Both sides use the same folder of JPEGs, the same network and objective (capacity, γ 1000, C 5), batch 64 and Adam.
`training.loop.train` on the packed set is compared with ImageFolder, DataLoader and an eager step of torch's own
layers, whose transforms resize as ours do. The plain way runs in a separate process, since our loop changes how the C
library keeps memory; it runs with DataLoader's default of no processes, and with one process per thread. The pictures
are 64×64 JPEGs, and then JPEGs of CelebA's size. Packing, which happens once, has its own column. So has our loop with
the default objective, in a run of three times as many steps, which includes the restart and its lessons.
(b) Our loop with the compiled convolutions (models/convolutions) at each instruction level of this processor is
compared with our loop with torch's convolutions.
(c) The multiply-adds of a step (forward, and twice as many backward, counted by layer) are shown as a share of the rate
of 1024³ float32 products. The compiled convolutions need fewer.
All sides alternate, round by round. The table shows the median over the rounds and the best: other work on the machine
only lowers the speed, so the best of each side depends least on it.
"""

import argparse
import copy
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets as torchvision_datasets
from torchvision import transforms

from models.config import NetworkConfig
from models.convolutions import loader as convolutions
from models.info import Preprocessing
from models.networks import VAE
from training.config import TrainingConfig
from training.data.datasets import ImageFolder, pack_dataset
from training.data.packs import Pack, open_pack
from training.loop import train
from training.monitor import Progress

BATCH = 64
GAMMA, CAPACITY = 1000, 5
ROUNDS = 6
START = 20
"""Number of untimed steps at the start of a run."""


def write_pictures(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Writes smooth random colour pictures as JPEGs of the given width and height."""
    rng = np.random.default_rng(0)
    (folder / "class").mkdir(parents=True)
    for i in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        data = io.BytesIO()
        image.save(data, "JPEG", quality=90)
        (folder / "class" / f"{i:06d}.jpg").write_bytes(data.getvalue())


@contextmanager
def prepared_pictures(size: tuple[int, int]) -> Iterator[tuple[Path, Pack, float]]:
    """Makes a temporary folder of JPEGs, and packs it.

    Args:
        size: Width and height of the pictures, px.

    Yields:
        The folder, its pack, and the speed of packing in images per second.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "pictures"
        write_pictures(folder, 2048, size)
        started = time.perf_counter()
        pack_dataset(ImageFolder(folder), Path(temporary) / "pack", Preprocessing(num_channels=3))
        packing = 2048 / (time.perf_counter() - started)
        yield folder, open_pack(Path(temporary) / "pack"), packing


def plain_steps(folder: Path, steps: int, num_workers: int) -> Iterator[None]:
    """Trains the plain way, and yields after every optimizer step."""
    transform = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(64), transforms.ToTensor()])
    dataset = torchvision_datasets.ImageFolder(str(folder), transform)
    loader = DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=num_workers, persistent_workers=num_workers > 0
    )
    config = NetworkConfig(num_channels=3)
    network = PlainVAE(VAE(config))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    done = 0
    while True:
        for images, _ in loader:
            logits, mean, log_variance = network(images, torch.randn(len(images), config.latent_dim))
            rec = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
            kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / len(images)
            loss = rec + GAMMA * (kl - CAPACITY).abs()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield
            done += 1
            if done == steps:
                return


class PlainVAE(nn.Module):
    """A network whose layers torch runs one after the other, without models.layers."""

    def __init__(self, network: VAE) -> None:
        """Copies a network's weights; the parameters keep their order."""
        super().__init__()
        network = copy.deepcopy(network)
        self.encoder = _plain(network.encoder.body)
        self.mean, self.log_variance = network.encoder.mean, network.encoder.log_variance
        self.decoder = _plain(network.decoder.body)

    def forward(self, images: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns logits, posterior mean and log-variance, like VAE.forward."""
        hidden = self.encoder(images)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        return self.decoder(mean + torch.exp(0.5 * log_variance) * noise), mean, log_variance


def _plain(body: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*(nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in body))


def plain_rate(folder: Path, steps: int, num_workers: int) -> float:
    """Returns the speed of the plain way in images per second, without its start."""
    run = plain_steps(folder, steps + START, num_workers)
    for _ in range(START):
        next(run)
    started = time.perf_counter()
    for _ in run:
        pass
    return steps * BATCH / (time.perf_counter() - started)


def plain_rate_apart(folder: Path, steps: int, num_workers: int) -> float:
    """Returns the result of plain_rate in a new process with the same number of threads."""
    command = [sys.executable, __file__, "--steps", str(steps), "--threads", str(torch.get_num_threads())]
    command += ["--plain", str(folder), "--workers", str(num_workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def our_rate(pack: Pack, steps: int, objective: str) -> float:
    """Returns the speed of our loop with an objective in images per second, without its start."""
    ends: list[float] = []

    def note(progress: Progress) -> None:
        ends.append(time.perf_counter())

    gamma = {"gamma": GAMMA} if objective == "capacity" else {}
    config = TrainingConfig(
        objective=objective,
        **gamma,
        capacity_start=CAPACITY,
        capacity_max=CAPACITY,
        num_channels=3,
        num_steps=steps + START,
        batch_size=BATCH,
        log_steps=START,
        preview_steps=0,
        validation_fraction=0.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        train(config, pack, run_folder=Path(folder), on_progress=note)
    return steps * BATCH / (ends[-1] - ends[0])


def print_levels(pack: Pack, steps: int) -> None:
    """Prints the table that compares the compiled convolutions at each level with torch's, in our loop."""
    levels = (None, *convolutions.available_levels())
    rates: dict[str | None, list[float]] = {level: [] for level in levels}
    for _ in range(ROUNDS):
        for level in levels:
            with convolutions.use_level(level):
                rates[level].append(our_rate(pack, steps, "capacity"))
    print("| convolutions | ours, images/s | beside torch's, medians | beside torch's, best |\n|---|---|---|---|")
    for level in levels:
        median, best = (f(rates[level]) / f(rates[None]) for f in (statistics.median, max))
        cell = f"{statistics.median(rates[level]):.0f} ({max(rates[level]):.0f})"
        print(f"| {level or 'torch'} | {cell} | {median:.2f}× | {best:.2f}× |", flush=True)
    if len(levels) == 1:
        print(f"no compiled convolutions: {convolutions.describe()}")


def product_rate() -> float:
    """Returns the multiply-adds per second of 1024³ float32 matrix products."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return 1024**3 / statistics.median(times)


def step_multiply_adds(config: NetworkConfig) -> int:
    """Returns the multiply-adds of a training step per image, which are three times those of the forward pass."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += output[0].numel() * layer.in_channels * 16
        elif isinstance(layer, nn.ConvTranspose2d):
            total += inputs[0][0].numel() * layer.out_channels * 16
        elif isinstance(layer, nn.Linear):
            total += layer.in_features * layer.out_features

    network = VAE(config)
    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    with torch.no_grad():  # The convolutions run as modules, with hooks, only where no gradients are recorded.
        network(torch.rand(1, config.num_channels, 64, 64), torch.zeros(1, config.latent_dim))
    return 3 * total


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="timed steps per run (default: 60)")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="threads of each side (default: torch's)"
    )
    parser.add_argument("--plain", type=Path, metavar="FOLDER", help="run only the plain way, on this folder")
    parser.add_argument("--workers", type=int, default=0, help="loader processes of the plain way (default: 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.plain:
        print(plain_rate(arguments.plain, arguments.steps, arguments.workers))
        return
    print(f"torch {torch.__version__}, {arguments.threads} threads, batch {BATCH}, 3×64×64, Burgess network")
    print(
        f"| pictures | plain, images/s | plain, {arguments.threads} loader processes | ours | ours, default objective "
        "| ratios, medians | ratios, best | packing, images/s |\n|---|---|---|---|---|---|---|---|"
    )
    needed = step_multiply_adds(NetworkConfig(num_channels=3))
    shares = []
    for label, size in (("JPEG 64×64", (64, 64)), ("JPEG 178×218", (178, 218))):
        with prepared_pictures(size) as (folder, pack, packing):
            # The sides alternate, so that other work on the machine affects all of them.
            rounds = [
                (
                    plain_rate_apart(folder, arguments.steps, 0),
                    plain_rate_apart(folder, arguments.steps, arguments.threads),
                    our_rate(pack, arguments.steps, "capacity"),
                    our_rate(pack, 3 * arguments.steps, TrainingConfig().objective.name),
                    product_rate(),
                )
                for _ in range(ROUNDS)
            ]
            columns = list(zip(*rounds, strict=True))
            medians, best = [[f(values) for values in columns] for f in (statistics.median, max)]
            shares += [
                (name, rates[2] * needed / rates[4], rates[4]) for name, rates in (("median", medians), ("best", best))
            ]
            cells = [f"{median:.0f} ({most:.0f})" for median, most in zip(medians[:4], best[:4], strict=True)]
            cells += [f"{rates[2] / rates[0]:.2f}×, {rates[2] / rates[1]:.2f}×" for rates in (medians, best)]
            print(f"| {label} | {' | '.join(cells)} | {packing:.0f} |", flush=True)
    with prepared_pictures((64, 64)) as (_, pack, _):
        print_levels(pack, arguments.steps)
    for name, share, rate in shares:
        print(
            f"{name} matrix products: {2 * rate / 1e9:.0f} GFLOP/s, which allows {rate / needed:.0f} images/s; "
            f"our loop reaches {share:.0%} of it"
        )


if __name__ == "__main__":
    main()
