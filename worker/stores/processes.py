"""How child processes ended, in words, and whether a process of this machine is gone. This module loads no torch."""

import os
import signal
from pathlib import Path


def exit_text(returncode: int) -> str:
    """Returns how a process ended.

    Args:
        returncode: As `subprocess.Popen.returncode` gives it: negative for a signal.
    """
    if returncode >= 0:
        return f"exited with code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def process_mark() -> str:
    """Returns a text that names this process among those of all machines and containers; empty if none can be made."""
    place = _place()
    return f"{place}:{os.getpid()}" if place else ""


def is_gone(mark: str | None) -> bool:
    """Returns whether the process of a mark ran on this machine and has ended. Others are not known to be gone."""
    place, _, pid = (mark or "").rpartition(":")
    if not place or place != _place() or not pid.isdigit():
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0] in ("Z", "X")
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _place() -> str:
    """Returns the boot of this machine and the namespace of its process ids; empty without Linux' /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""
