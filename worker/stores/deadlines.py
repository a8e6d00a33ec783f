"""How often work was ended in this process because it took too long. This module loads no torch."""

import threading
from typing import Literal

Deadline = Literal["body", "call", "parsing"]
"""A request's body that came too slowly, a call that no worker answered, a foreign file that was read for too long."""

_passed: dict[Deadline, int] = {"body": 0, "call": 0, "parsing": 0}
_lock = threading.Lock()


def passed(what: Deadline) -> None:
    """Counts one."""
    with _lock:
        _passed[what] += 1


def num_passed() -> dict[Deadline, int]:
    """Returns the numbers since the process began."""
    with _lock:
        return dict(_passed)
