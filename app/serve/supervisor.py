"""Child processes that are kept running, each in its own session, restarted after a crash, and never orphaned."""

import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import IO

from app.serve import reaper
from worker.stores.processes import exit_text

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""Run time after which the crashes before it no longer count for the delay of a restart."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Child:
    """One process to keep running.

    Attributes:
        name: Name in the lines that are printed.
        command: The command line.
        rank: Children are stopped from the lowest rank to the highest.
        stop_seconds: Time that the child may take to stop, in seconds.
        pass_fds: Descriptors that the child inherits.
        process: The running process.
        started_at: Time of the last start, of the monotonic clock.
        restart_at: Time of the next start; None while the child runs.
        num_crashes: Number of crashes in a row.
    """

    name: str
    command: Sequence[str]
    rank: int
    stop_seconds: float
    pass_fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started_at: float = 0.0
    restart_at: float | None = None
    num_crashes: int = 0

    @property
    def running(self) -> bool:
        """True while the process runs."""
        return self.process is not None and self.process.poll() is None


def restart_delay(num_crashes: int) -> float:
    """Returns the seconds before a child is restarted after its n-th crash in a row, n from 1."""
    return min(FIRST_DELAY_SECONDS * 2.0 ** (num_crashes - 1), LONGEST_DELAY_SECONDS)


class Supervisor:
    """Starts children, restarts them when they crash, and stops them in order."""

    def __init__(self, environment: Mapping[str, str], say: Callable[[str], None], kept_fds: tuple[int, ...]) -> None:
        """Starts the reaper and takes over the signals that ask to stop.

        Args:
            environment: Environment of every child.
            say: Prints one line.
            kept_fds: Descriptors that the reaper holds open until every child has stopped.
        """
        self.children: list[Child] = []
        self.stop_requested = False
        self.kill_requested = False
        self._environment = dict(environment)
        self._say = say
        self._reaper = self._start_reaper(kept_fds)
        self._wakeup = self._catch_signals()

    def _start_reaper(self, kept_fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "app.serve.reaper"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, start_new_session=True, pass_fds=kept_fds, env=self._environment
        )

    def _catch_signals(self) -> socket.socket:
        """Lets signals end the wait of `wait`. Returns the socket that they make readable."""
        readable, writable = socket.socketpair()
        readable.setblocking(False)
        writable.setblocking(False)
        self._writable = writable
        signal.set_wakeup_fd(writable.fileno(), warn_on_full_buffer=False)

        def request_stop(number: int, frame: FrameType | None) -> None:
            if self.stop_requested and number == signal.SIGINT:
                self.kill_requested = True
            self.stop_requested = True

        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP.
                signal.signal(number, request_stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        return readable

    def add(self, child: Child) -> None:
        """Starts a child and keeps it running."""
        self.children.append(child)
        self._start(child)

    def _start(self, child: Child) -> None:
        child.restart_at = None
        child.started_at = time.monotonic()
        child.process = subprocess.Popen(
            child.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=child.pass_fds,
            env=self._environment,
        )
        self._tell_reaper(f"+ {child.process.pid} {child.rank}")

    def _tell_reaper(self, line: str) -> None:
        pipe: IO[bytes] | None = self._reaper.stdin
        assert pipe is not None
        try:
            pipe.write(line.encode() + b"\n")
            pipe.flush()
        except OSError:  # The reaper was killed; without it, only a kill -9 of the launcher leaves orphans.
            pass

    def wait(self, seconds: float) -> None:
        """Waits until a signal comes or the seconds have passed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup, selectors.EVENT_READ)
            if selector.select(seconds):
                self._wakeup.recv(4096)

    def restart_crashed(self) -> None:
        """Notices children that have ended, and restarts those whose delay has passed."""
        now = time.monotonic()
        for child in self.children:
            if child.restart_at is not None:
                if now >= child.restart_at:
                    self._start(child)
                continue
            assert child.process is not None
            returncode = child.process.poll()
            if returncode is None:
                continue
            self._forget(child)
            steady = now - child.started_at >= STEADY_SECONDS
            child.num_crashes = 1 if steady else child.num_crashes + 1
            delay = restart_delay(child.num_crashes)
            child.restart_at = now + delay
            self._say(f"{child.name} {exit_text(returncode)}; starting it again in {delay:g} s")

    def _forget(self, child: Child) -> None:
        """Kills what a child left behind in its process group, and takes the child off the reaper's list."""
        assert child.process is not None
        reaper.signal_group(child.process.pid, signal.SIGKILL)
        self._tell_reaper(f"- {child.process.pid}")

    def stop(self) -> None:
        """Stops the children, the lowest rank first; kills those that take too long, or all after a second Ctrl-C."""
        self.stop_requested = True
        for rank in sorted({child.rank for child in self.children}):
            self._stop_rank([child for child in self.children if child.rank == rank and child.running])
        if self._reaper.stdin is not None:
            self._reaper.stdin.close()
        self._reaper.wait()

    def _stop_rank(self, running: list[Child]) -> None:
        for child in running:
            assert child.process is not None
            reaper.signal_group(child.process.pid, signal.SIGTERM)
        started = time.monotonic()
        while running:
            self.wait(0.2)
            waited = time.monotonic() - started
            for child in running:
                if child.running and (self.kill_requested or waited > child.stop_seconds):
                    assert child.process is not None
                    self._say(f"{child.name} did not stop in {waited:.0f} s: killing it")
                    reaper.signal_group(child.process.pid, signal.SIGKILL)
                    child.process.wait()
            for child in [child for child in running if not child.running]:
                self._forget(child)
                running.remove(child)
