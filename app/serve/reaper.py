"""The reaper: a process that stops the launcher's children when the launcher is gone.

It reads lines from a pipe whose write end only the launcher has. A kill -9 of the launcher closes that end, which the
reaper sees as the end of the file; before a clean stop, the launcher reports each child that has ended. The reaper runs
in its own session, so that Ctrl-C in a terminal does not reach it, and imports only the standard library.

The line `+ PID RANK` reports that a process group began, `- PID` that it ended. Ranks are stopped from the lowest to
the highest, so that the broker, the highest, runs while workers hand their jobs back.
"""

import os
import signal
import sys
import time
from collections.abc import Iterable

TERM_SECONDS = 6.0
"""Time that the groups of one rank may take to stop before they are killed; a checkpoint takes less."""


def group_alive(pid: int) -> bool:
    """Returns whether a process group still has a member that is no zombie."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not os.path.isdir("/proc/self"):
        return True
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                state, _, group = file.read().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(group) == pid and state != "Z":
            return True
    return False


def signal_group(pid: int, number: int) -> None:
    """Sends a signal to a process group, which may be gone already."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def stop_groups(pids: Iterable[int], seconds: float) -> None:
    """Asks process groups to stop, waits, and kills those that still run.

    Args:
        pids: Ids of the groups.
        seconds: Longest wait, in seconds.
    """
    left = list(pids)
    for pid in left:
        signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = [pid for pid in left if group_alive(pid)]
    for pid in left:
        signal_group(pid, signal.SIGKILL)


def main() -> None:
    """Reads standard input to its end, then stops the groups that still run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ranks: dict[int, int] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", pid, rank]:
                ranks[int(pid)] = int(rank)
            case ["-", pid]:
                ranks.pop(int(pid), None)
    for rank in sorted(set(ranks.values())):
        stop_groups((pid for pid, its in ranks.items() if its == rank), TERM_SECONDS)


if __name__ == "__main__":
    main()
