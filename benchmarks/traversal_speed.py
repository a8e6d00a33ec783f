"""Compares speed, quality and size of our traversal GIFs with a yardstick.

    python -m benchmarks.traversal_speed [MODEL_FOLDER]

The yardstick calls the decoder once per frame and imageio.mimsave once per dimension. Both ways decode and encode 32
dimensions × 30 frames of 64×64 RGB, as a render worker does. Without a folder the network has random weights, scaled so
that its pictures change. Both ways run on this machine in one run; CPU seconds are more reliable than seconds where
other work runs. The ratio of the CPU seconds understates the gain on idle cores, since only the renderer uses two.
"""

import argparse
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imageio.v2
import numpy as np
import torch
from PIL import Image, ImageSequence

from models.config import NetworkConfig
from models.files import LoadedModel, load_model
from models.info import ModelInfo, Preprocessing
from models.networks import VAE
from training.memory import keep_freed_memory
from worker.render_job import make_dimensions
from worker.rendering.rendered import Rendered
from worker.rendering.request import Pixels, parse_request, resolve_request
from worker.rendering.traversal import render_traversal

FPS = 15


@dataclass(frozen=True)
class Measured:
    """Cost and result of one way of making the GIFs.

    Attributes:
        seconds: Duration.
        cpu_seconds: CPU time of all threads.
        num_bytes: Size of all GIFs.
        psnr: Mean peak signal-to-noise ratio against the true frames, dB.
    """

    seconds: float
    cpu_seconds: float
    num_bytes: int
    psnr: float


def random_model(latent_dim: int = 32) -> LoadedModel:
    """Returns a model with random weights, whose pictures change with every latent."""
    config = NetworkConfig(image_size=64, num_channels=3, latent_dim=latent_dim)
    network = VAE(config)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                scale = 1.6 / parameter[0].numel() ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    info = ModelInfo(name="random", network=config, preprocessing=Preprocessing(num_channels=3))
    return LoadedModel(network.eval(), info)


def yardstick(model: LoadedModel, start: Rendered) -> dict[int, bytes]:
    """Makes the GIFs with one decoder call and one palette per frame."""
    gifs = {}
    for strip in start.strips:
        assert strip.dimension is not None
        frames = []
        for value in strip.values:
            latent = torch.from_numpy(start.mean.copy())[None]
            latent[0, strip.dimension] = float(value)
            with torch.no_grad():
                frames.append((model.network.decode(latent)[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))
        stream = io.BytesIO()
        imageio.v2.mimsave(stream, frames, format="GIF", fps=FPS)  # type: ignore[arg-type]
        gifs[strip.dimension] = stream.getvalue()
    return gifs


def measure(make: Callable[[], dict[int, bytes]], truth: dict[int, Pixels]) -> Measured:
    """Runs `make` once, and compares its GIFs with the true frames.

    Args:
        make: Function that returns GIFs by dimension.
        truth: True frames by dimension.
    """
    begin, cpu_begin = time.perf_counter(), time.process_time()
    gifs = make()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    quality = [_psnr(gifs[dimension], frames) for dimension, frames in truth.items()]
    return Measured(seconds, cpu_seconds, sum(map(len, gifs.values())), float(np.mean(quality)))


def _psnr(gif: bytes, frames: Pixels) -> float:
    """Returns the peak signal-to-noise ratio of a GIF's frames against the true frames, dB."""
    image = Image.open(io.BytesIO(gif))
    shown = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])
    if len(shown) < len(frames):  # imageio merges equal frames, so a frame that is shown longer is repeated here.
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
        shown = shown.repeat(np.round(np.array(durations) * len(frames) / sum(durations)).astype(int), 0)
    error = ((shown[: len(frames)].astype(float) - frames[: len(shown)]) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Compare the speed of traversals with a yardstick.")
    parser.add_argument("model", type=Path, nargs="?", help="folder of a model (default: random weights)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    model = load_model(arguments.model) if arguments.model else random_model()
    request = resolve_request(parse_request({"seed": 1, "steps": 30, "scale": 1, "fps": FPS}), model.info, 0)
    rendered = render_traversal(model, [], request)  # This call also warms up the network.
    truth = {strip.dimension: strip.frames for strip in rendered.strips if strip.dimension is not None}
    slow = measure(lambda: yardstick(model, rendered), truth)
    model.network.to(memory_format=torch.channels_last)
    fast = min((measure(lambda: make_dimensions(model, [], request), truth) for _ in range(3)), key=lambda m: m.seconds)

    num = len(truth) * request.steps
    size, channels = model.info.network.image_size, model.info.network.num_channels
    print(f"{len(truth)} dimensions × {request.steps} frames ({num}) of {size}×{size}×{channels}, one run")
    print(f"{'':22}{'seconds':>10}{'CPU s':>10}{'MB':>10}{'PSNR dB':>10}")
    for name, row in (("yardstick", slow), ("renderer (best of 3)", fast)):
        print(f"{name:22}{row.seconds:10.2f}{row.cpu_seconds:10.2f}{row.num_bytes / 1e6:10.2f}{row.psnr:10.2f}")
    print(
        f"{'':22}{slow.seconds / fast.seconds:9.1f}×{slow.cpu_seconds / fast.cpu_seconds:9.1f}×"
        f"{fast.num_bytes / slow.num_bytes:9.2f}×{fast.psnr - slow.psnr:+10.2f}"
    )


if __name__ == "__main__":
    main()
