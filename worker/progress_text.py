"""The progress of a training in words, for the log and the command line. This module loads no torch."""

from collections.abc import Mapping
from typing import Any


def progress_text(metrics: Mapping[str, Any], images_per_second: float | None) -> str:
    """Returns the losses and the speed of a training as a line.

    Args:
        metrics: The newest metrics: reconstruction_loss and kl in nats, and those of the objective.
        images_per_second: Speed of the training; None before it is known.
    """
    floor = metrics.get("bernoulli_floor", 0)
    known = f" (floor {floor:.1f})" if floor >= 0.05 else ""
    parts = [f"reconstruction {metrics['reconstruction_loss']:.1f}{known}", f"KL {metrics['kl']:.2f}"]
    if "capacity" in metrics:
        parts[-1] += f"/{metrics['capacity']:.2f}"
    if "beta" in metrics:
        parts.append(f"β {metrics['beta']:.3g} (normalised {metrics['normalised_beta']:.2g})")
    if images_per_second is not None:
        parts.append(f"{images_per_second:.0f} images/s")
    return ", ".join(parts)
