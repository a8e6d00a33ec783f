"""What a run leaves behind: JSON lines, TensorBoard events, previews, the figure of Burgess et al. 2018."""

import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from torch import Tensor

from models.atomic import write_bytes
from models.networks import VAE
from training.checkpoints import list_checkpoints
from training.data.sources import mark_as_own
from training.inputs import evenly_spaced

METRICS_FILE = "metrics.jsonl"
LEFT_BY_A_RUN = (
    "tensorboard",
    "previews",
    "training.gif",
    "capacity.png",
    "checkpoints",
    "best",
    "model",
    METRICS_FILE,
)
"""In its folder, beside what others put there. The metrics last: while they are there, it is known to be a run's."""
PREVIEW_IMAGES = 8
PREVIEW_SPAN, PREVIEW_FRAMES = 3.0, 8
_GIF_FRAMES = 100
"""Of training.gif: the previews of a long run would take minutes and gigabytes."""


def clear_run(folder: Path) -> None:
    """Removes what an earlier run left in a folder, so that a new one cannot be mixed with it.

    Where neither metrics nor checkpoints tell that it is the folder of a run, nothing is removed.
    """
    if not (folder / METRICS_FILE).exists() and not list_checkpoints(folder / "checkpoints"):
        return
    for name in LEFT_BY_A_RUN:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


class Recorder:
    """Writes a run's records below one folder; a resumed run goes on in the same files.

    Records and previews of steps after `step`, made by a worker that died before its next checkpoint, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        mark_as_own(folder)
        path = folder / METRICS_FILE
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step]
        write_bytes(path, "".join(line + "\n" for line in kept).encode())
        for preview in self._previews():
            if int(preview.stem) > step:
                preview.unlink()
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._events = _Events(folder / "tensorboard", step)

    def record(self, step: int, values: dict[str, Any]) -> None:
        """Appends one line and the same numbers as TensorBoard scalars; kl_per_dimension becomes one curve each."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        scalars = {name: value for name, value in values.items() if isinstance(value, int | float)}
        scalars |= {f"kl_per_dimension/{k:02d}": kl for k, kl in enumerate(values.get("kl_per_dimension", ()))}
        self._events.add(step, *(summary.scalar(name, value) for name, value in scalars.items()))

    def preview(self, step: int, network: VAE, images: Tensor) -> None:
        """Saves previews/<step>.png: originals, reconstructions, and a traversal of every dimension of the first image.

        Args: images, (N, C, H, W) in [0, 1], on the network's device.
        """
        sheet = preview_sheet(network, images[:PREVIEW_IMAGES])
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG")
        write_bytes(self.folder / "previews" / f"{step:08d}.png", buffer.getvalue())
        self._events.add(step, summary.image("preview", sheet, dataformats="HWC"))

    def close(self) -> None:
        """Ends the files."""
        self._file.close()
        self._events.close()

    def finish(self, restart_step: int | None = None) -> None:
        """Draws training.gif out of the previews, and capacity.png: Burgess' figure of KL per dimension against C.

        Args: restart_step, from which on another network is trained, at the end of C.
        """
        previews = self._previews()
        if previews:
            shown = evenly_spaced(np.arange(len(previews)), _GIF_FRAMES)
            write_bytes(self.folder / "training.gif", _animate([previews[k] for k in shown]))
        records = [json.loads(line) for line in (self.folder / METRICS_FILE).read_text("utf-8").splitlines()]
        records = [record for record in records if "kl_per_dimension" in record]
        if records:
            write_bytes(self.folder / "capacity.png", capacity_figure(records, restart_step))

    def _previews(self) -> list[Path]:
        """The run's own, oldest first."""
        return sorted(path for path in (self.folder / "previews").glob("*.png") if path.stem.isdigit())


class _Events:
    """TensorBoard's events of one stretch of a run, written by whoever calls.

    tensorboardX's own writer has a thread for it, for which a run waits forever once a full disk has ended it.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """Args: step, after which the stretch begins; TensorBoard forgets what it has seen of later ones."""
        folder.mkdir(parents=True, exist_ok=True)
        # Two stretches may begin within a second, which is all that the file's name tells of the time.
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{step}")
        if step:
            self._writer.write_event(Event(step=step + 1, file_version="brain.Event:2"))
            self._writer.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, *summaries: Any) -> None:
        """Writes them down to the system. Raises OSError."""
        for one in summaries:
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=one))
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()


def _step_of(line: str) -> float:
    """The step of a record; a torn line counts as later than every step."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")


def _animate(pictures: list[Path]) -> bytes:
    """A GIF that shows each picture for .2 s, and holds one of them in memory at a time beside what it has written."""
    frames = (_paletted(Image.open(path).convert("RGB")) for path in pictures)
    buffer = io.BytesIO()
    next(frames).save(buffer, "GIF", save_all=True, append_images=frames, duration=200, loop=0)
    return buffer.getvalue()


def _paletted(picture: Image.Image) -> Image.Image:
    """At most 256 colours; greys stay as they are."""
    if not np.ptp(np.asarray(picture), axis=2).any():
        return picture.convert("L")
    # An octree takes an eighth of the time of the usual median cut, and keeps small things' hues better.
    return picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


@torch.no_grad()
def preview_sheet(network: VAE, images: Tensor) -> NDArray[np.uint8]:
    """Rows of pictures: originals, reconstructions, then one traversal from −3 to 3 a dimension; (H', W', 3) uint8."""
    mean, _ = network.encode(images)
    latent_dim = mean.shape[1]
    values = torch.linspace(-PREVIEW_SPAN, PREVIEW_SPAN, PREVIEW_FRAMES, device=mean.device)
    latents = mean[:1].repeat(latent_dim * PREVIEW_FRAMES, 1)
    rows = torch.arange(len(latents), device=mean.device)
    latents[rows, rows // PREVIEW_FRAMES] = values.repeat(latent_dim)
    padding = torch.ones(PREVIEW_FRAMES - len(images) % PREVIEW_FRAMES, *images.shape[1:], device=images.device)
    padding = padding[: -len(images) % PREVIEW_FRAMES]
    tiles = torch.cat([images, padding, network.decode(mean), padding, network.decode(latents)])
    pixels = (tiles.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    if pixels.shape[3] == 1:
        pixels = pixels.repeat(3, axis=3)
    pixels = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=128)
    count, height, width, _ = pixels.shape
    grid = pixels.reshape(count // PREVIEW_FRAMES, PREVIEW_FRAMES, height, width, 3)
    sheet: NDArray[np.uint8] = grid.transpose(0, 2, 1, 3, 4).reshape(-1, PREVIEW_FRAMES * width, 3)
    return sheet


def capacity_figure(records: list[dict[str, Any]], restart_step: int | None = None) -> bytes:
    """A PNG of KL per dimension against C, or against the step where C does not move (Burgess et al. 2018, Fig. 2).

    Where C jumps, at a restart, the lines against C break.
    """
    # The object interface: pyplot keeps global state and is not safe in a worker's thread.
    from matplotlib.figure import Figure

    steps = [record["step"] for record in records]
    capacities = [float(record.get("capacity", 0.0)) for record in records]
    moves = max(capacities) - min(capacities) > 1e-9
    # C stays at its maximum after the ramp; the step tells the whole story, so the figure shows both.
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True) if moves else [figure.subplots()]
    kl = np.array([record["kl_per_dimension"] for record in records])
    jump = sum(step <= restart_step for step in steps) if restart_step is not None else 0
    broken = np.insert(kl, jump, np.nan, axis=0), np.insert(capacities, jump, np.nan)
    for axes, (y, x), label in zip(panels, [(kl, steps), broken], ["step", "capacity C (nats)"], strict=False):
        for k in range(kl.shape[1]):
            axes.plot(x, y[:, k], linewidth=1, label=f"z{k}")
        axes.set_xlabel(label)
        axes.locator_params(axis="x", nbins=5)  # With more, the steps of a long run write over each other.
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("KL per dimension (nats)")
    if kl.shape[1] <= 16:
        panels[-1].legend(ncols=2, fontsize=7)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
