"""The progress of long work as lines of text and as fields of a job's record. This module loads no torch."""

import re
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.monitor import Progress

NUM_REPORTS = 8
"""Number of reports over which the speed is averaged."""


class RemainingTime:
    """The time that a piece of work still takes, estimated from its speed over the last reports."""

    def __init__(self) -> None:
        self._reports: deque[tuple[float, int]] = deque(maxlen=NUM_REPORTS)
        self._total = 0

    def seconds(self, done: int, total: int, now: float) -> float | None:
        """Takes a report and returns the time left, in seconds, or None while the speed is not known.

        Args:
            done: Number of steps that are done.
            total: Number of all steps.
            now: Time of the report, in seconds.
        """
        if total != self._total or (self._reports and done < self._reports[-1][1]):  # Another piece of work begins.
            self._reports.clear()
        self._total = total
        self._reports.append((now, done))
        first_now, first_done = self._reports[0]
        if done == first_done:
            return None
        return (total - done) * (now - first_now) / (done - first_done)


def progress_line(done: int, total: int, seconds_left: float | None, details: str = "") -> str:
    """Returns how far a piece of work is, as a line that begins with what matters most and may be cut at the right.

    Args:
        done: Number of steps that are done.
        total: Number of all steps; 0 if it is not known.
        seconds_left: Time left, in seconds; None if it is not known.
        details: The end of the line.
    """
    parts = [f"{100 * done // total} % ({done}/{total})" if total else f"{done}"]
    if seconds_left is not None and done < total:
        parts.append(f"{duration_text(seconds_left)} left")
    return ", ".join([*parts, *([details] if details else [])])


def duration_text(seconds: float) -> str:
    """Returns a duration in seconds, minutes or hours, such as "45 s", "12 min" and "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns numbers as an event shows them, with five significant digits; whole numbers and texts stay.

    Args:
        values: The values by name, among them lists of numbers.
    """

    def shown(value: Any) -> Any:
        if isinstance(value, list):
            return [shown(one) for one in value]
        return float(f"{value:.5g}") if isinstance(value, float) else value

    return {name: shown(value) for name, value in values.items()}


def losses_text(metrics: Mapping[str, Any], images_per_second: float | None) -> str:
    """Returns the losses and the speed of a training in words.

    Args:
        metrics: The newest metrics: reconstruction_loss and kl of the training batches in nats, those of the objective,
            and after the first validation those of the validation split.
        images_per_second: Speed of the training; None before it is known.
    """
    beside = []
    if metrics.get("validation_reconstruction_loss") is not None:
        beside.append(f"validation {metrics['validation_reconstruction_loss']:.1f}")
    if metrics.get("bernoulli_floor", 0) >= 0.05:
        beside.append(f"floor {metrics['bernoulli_floor']:.1f}")
    known = f" ({', '.join(beside)})" if beside else ""
    parts = [f"reconstruction {metrics['reconstruction_loss']:.1f}{known}", f"KL {metrics['kl']:.2f}"]
    if "capacity" in metrics:
        parts[-1] += f"/{metrics['capacity']:.2f}"
    if "beta" in metrics:
        parts.append(f"β {metrics['beta']:.3g} (normalised {metrics['normalised_beta']:.2g})")
    if images_per_second is not None:
        parts.append(f"{images_per_second:.0f} images/s")
    return ", ".join(parts)


def progress_fields(progress: "Progress") -> dict[str, Any]:
    """Returns the progress of a training as fields of its job's record."""
    speed = {"images_per_second": progress.images_per_second, "eta_seconds": progress.eta_seconds}
    return rounded(position_fields(progress.step, progress.num_steps) | speed)


def position_fields(step: int, num_steps: int) -> dict[str, Any]:
    """Returns the position of a training as fields of its job's progress."""
    fraction = step / num_steps
    return {"step": step, "num_steps": num_steps, "fraction": fraction, "phase": "training", "phase_fraction": fraction}


def without_numbers(text: str) -> str:
    """Returns a warning without its numbers, which differ between attempts."""
    return re.sub(r"\d[\d.]*", "", text)
