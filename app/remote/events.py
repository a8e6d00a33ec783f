"""Events of a job as the client sees them: read from server-sent events, and shown as a progress bar."""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from app.schemas import TrainJob
from worker.progress_text import RemainingTime, losses_text, progress_line

BAR_WIDTH = 10


@dataclass(frozen=True)
class JobEvent:
    """An event of a job.

    Attributes:
        id: Its id in the job's log; empty where the client has asked for the job's state instead.
        type: A state, or progress, packing, warning, checkpoint, model and others.
        data: Its numbers; `status` is the job's state.
    """

    id: str
    type: str
    data: dict[str, Any]


async def read_events(lines: AsyncIterator[str]) -> AsyncGenerator[JobEvent]:
    """Yields the events in the lines of a server-sent stream; an event that was cut off is dropped."""
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(":")
        if name in ("id", "event", "data"):
            fields[name] = value.removeprefix(" ")
        elif not line and "data" in fields:
            yield JobEvent(fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}


def polled_event(job: TrainJob) -> JobEvent:
    """Returns a job's present state as an event, for a client that cannot read the stream."""
    data = {
        "status": job.status,
        "progress": job.progress.model_dump(exclude_unset=True),
        "metrics": job.metrics.model_dump(exclude_unset=True),
    }
    return JobEvent("", "progress" if job.metrics.kl is not None else job.status, data)


class Show(Protocol):
    """A function that shows an event."""

    def __call__(self, event: JobEvent) -> None:
        """Shows the event."""


@contextmanager
def progress_bar(label: str, *, is_shown: bool) -> Iterator[Show]:
    """Yields a function that shows a job's events as a progress bar on standard error.

    Args:
        label: The beginning of the line.
        is_shown: False shows nothing.
    """
    console = Console(stderr=True)
    columns = BarColumn(bar_width=BAR_WIDTH), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console, disable=not is_shown) as bar:
        task = bar.add_task(label, total=None)
        remaining = RemainingTime()

        def show(event: JobEvent) -> None:
            if event.type == "warning" and is_shown:
                console.print(f"warning: {event.data['message']}", markup=False)
            done, total, details = _position(event)
            if total:
                left = remaining.seconds(done, total, time.monotonic())
                text = f"{label}: {progress_line(done, total, left, details)}"
                bar.update(task, completed=done, total=total, description=text[: console.width - BAR_WIDTH - 1])
            elif event.type == event.data.get("status"):
                bar.update(task, description=f"{label}: {event.type}")

        yield show


def _position(event: JobEvent) -> tuple[int, int, str]:
    """Returns how much of how much is done by an event, and its details; 0 of 0 for an event without progress."""
    if event.type == "packing":
        return int(event.data.get("done") or 0), int(event.data.get("total") or 0), "pictures"
    progress, metrics = event.data.get("progress") or {}, event.data.get("metrics") or {}
    if event.type != "progress" or not progress.get("num_steps"):
        return 0, 0, ""
    known = {name: value for name, value in metrics.items() if value is not None}
    details = losses_text(known, progress.get("images_per_second")) if "kl" in known else ""
    return int(progress["step"]), int(progress["num_steps"]), details
