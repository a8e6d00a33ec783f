"""Writes a run's records: JSON lines, TensorBoard events, previews, and the figure of Burgess et al. 2018."""

import io
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from torch import Tensor

from models.atomic import write_bytes
from models.networks import VAE
from models.web_weights import DECODER_FILE, web_weights
from training.checkpoints import list_checkpoints
from training.data.sources import mark_as_own
from training.inputs import evenly_spaced
from training.pictures import PREVIEW_IMAGES, animation, capacity_figure, preview_sheet

METRICS_FILE = "metrics.jsonl"
LEFT_BY_A_RUN = (
    "tensorboard",
    "previews",
    "training.gif",
    "capacity.png",
    DECODER_FILE,
    "checkpoints",
    "best",
    "model",
    METRICS_FILE,
)
"""Names that a run writes into its folder. The metrics come last, since they mark the folder as one of a run while the
others are removed."""
_DRAWING_SECONDS = 10.0
"""Least time between two drawings of training.gif and capacity.png while a run goes on; each takes up to a second."""
_GIF_FRAMES = 100
"""Maximum number of previews in training.gif. All previews of a long run would take minutes and gigabytes."""


def clear_run(folder: Path) -> None:
    """Removes an earlier run's files from a folder, so that they cannot mix with those of a new run.

    Nothing is removed where neither metrics nor checkpoints identify the folder as one of a run.
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
    """Writes a run's records below one folder; a resumed run continues the same files.

    Records and previews of steps after `step`, made by a worker that died before its next checkpoint, are removed.
    """

    def __init__(self, folder: Path, step: int, may_record: Callable[[], bool] | None = None) -> None:
        """Opens the files.

        Args:
            folder: Folder of the run.
            step: Number of steps that are done.
            may_record: Function that is asked before each record; False, when another process has taken over the run,
                drops the record.
        """
        self.folder, self._may_record = folder, may_record or (lambda: True)
        self._drawn_at = time.monotonic()
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
        """Appends one line, and writes the same numbers as TensorBoard scalars.

        Args:
            step: Number of steps that are done.
            values: Values by name. kl_per_dimension, a list of D numbers, becomes one curve per dimension.
        """
        if not self._may_record():
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        scalars = {name: value for name, value in values.items() if isinstance(value, int | float)}
        scalars |= {f"kl_per_dimension/{k:02d}": kl for k, kl in enumerate(values.get("kl_per_dimension", ()))}
        self._events.add(step, *(summary.scalar(name, value) for name, value in scalars.items()))

    def preview(self, step: int, num_steps: int, network: VAE, images: Tensor, restart_step: int | None) -> None:
        """Saves previews/<step>.png and the decoder for browsers.

        training.gif and capacity.png are drawn anew every ten seconds or so.

        Args:
            step: Number of steps that are done.
            num_steps: Number of steps of the run.
            network: The network.
            images: (N, C, H, W) in [0, 1], on the network's device; the first one is traversed.
            restart_step: Step of the restart, from which a new network is trained; None without one.
        """
        sheet = preview_sheet(network, images[:PREVIEW_IMAGES], step=step, num_steps=num_steps)
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG")
        write_bytes(self.folder / "previews" / f"{step:08d}.png", buffer.getvalue())
        self._events.add(step, summary.image("preview", sheet, dataformats="HWC"))
        self._write_decoder(step, network, images[:1])
        # After the last preview, `finish` draws them.
        if step < num_steps and time.monotonic() - self._drawn_at >= _DRAWING_SECONDS:
            self._draw(restart_step)
            self._drawn_at = time.monotonic()

    @torch.no_grad()
    def _write_decoder(self, step: int, network: VAE, image: Tensor) -> None:
        """Writes the decoder, with the posterior mean of an image, (1, C, H, W), as a vector to begin with."""
        tensors = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
        about = {"step": step, "z": network.encode(image)[0][0].tolist()}
        write_bytes(self.folder / DECODER_FILE, web_weights(tensors, network.config, about=about))

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._events.close()

    def finish(self, restart_step: int | None = None) -> None:
        """Draws training.gif and capacity.png of the whole run.

        Args:
            restart_step: Step of the restart, from which a new network is trained; None without one.
        """
        self._draw(restart_step)

    def _draw(self, restart_step: int | None) -> None:
        previews = self._previews()
        if previews:
            shown = evenly_spaced(np.arange(len(previews)), _GIF_FRAMES)
            write_bytes(self.folder / "training.gif", animation([previews[k] for k in shown]))
        records = [json.loads(line) for line in (self.folder / METRICS_FILE).read_text("utf-8").splitlines()]
        records = [record for record in records if "kl_per_dimension" in record]
        if records:
            write_bytes(self.folder / "capacity.png", capacity_figure(records, restart_step))

    def _previews(self) -> list[Path]:
        """Returns the run's own previews, oldest first."""
        return sorted(path for path in (self.folder / "previews").glob("*.png") if path.stem.isdigit())


class _Events:
    """TensorBoard's events of one stretch of a run, written by the calling thread.

    tensorboardX's own writer uses a separate thread. A run waits for that thread forever once a full disk has ended it.
    """

    def __init__(self, folder: Path, step: int) -> None:
        """Begins a stretch.

        Args:
            folder: Folder of the event files.
            step: Step after which the stretch begins; TensorBoard discards events of later steps.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # Two stretches may begin within the same second, which is the resolution of the time in a file's name.
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{step}")
        if step:
            self._writer.write_event(Event(step=step + 1, file_version="brain.Event:2"))
            self._writer.write_event(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def add(self, step: int, *summaries: Any) -> None:
        """Writes summaries, and flushes them to the operating system.

        Raises:
            OSError: The file cannot be written.
        """
        for one in summaries:
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=one))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def _step_of(line: str) -> float:
    """Returns the step of a record; an incomplete line counts as later than every step."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
