"""Processes for foreign bytes: the parser of a strange file may crash, hang or swell there, and is killed for it.

Parent and child speak in frames: a line of JSON, whose `size` says how many bytes follow. Free of torch.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_LONGEST_HEAD = 2**20


class ParserDied(RuntimeError):
    """The process that read a foreign file ended without an answer. The message says why, for people."""


def child_environment() -> dict[str, str]:
    """The environment of a child that runs a module of ours, wherever this process was started."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # numpy would make a thread a processor, though nothing here multiplies matrices.
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def write_frame(pipe: IO[bytes], head: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Sends a frame. Raises OSError when nobody reads any more."""
    pipe.write(json.dumps({**head, "size": len(body)}, default=str).encode() + b"\n")
    pipe.write(body)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Waits for a frame. Raises EOFError when the other side has ended."""
    line = pipe.readline(_LONGEST_HEAD)
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    body = pipe.read(head["size"])
    if len(body) < head["size"]:
        raise EOFError
    return head, body


def limit_memory(num_bytes: int) -> None:
    """Bounds the address space that this process may take beyond what it has; no core is dumped when it dies."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
    except FileNotFoundError:  # Not Linux: there, what a process has mapped cannot be told, nor does the limit hold.
        return
    resource.setrlimit(resource.RLIMIT_AS, (mapped + num_bytes, resource.RLIM_INFINITY))


def exit_text(status: int | None) -> str:
    """How a process ended, for people. Args: status, as subprocess gives it; None for one that has not ended."""
    if status is None:
        return "no exit status"
    if status == -signal.SIGKILL:
        return f"signal {-status}: out of memory?"
    if status < 0:
        with suppress(ValueError):
            return f"signal {-status}: {signal.Signals(-status).name}"
    return f"exit status {status}"


class ParsingChild:
    """A process that runs worker.stores.parsing, as its parent holds it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker.stores.parsing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
        )
        self._late = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, head: dict[str, Any], body: bytes = b"", *, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Sends a frame and waits for the one that answers it.

        Args:
            head: What is asked, for worker.stores.parsing.
            body: The bytes that go with it.
            seconds: Wall time after which the child is killed.

        Raises:
            ParserDied: when the child was killed, or ended by itself.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._deadline(seconds):
            try:
                write_frame(self._process.stdin, head, body)
                return read_frame(self._process.stdout)
            except (OSError, EOFError, ValueError) as error:
                self.close()
                raise ParserDied(self._reason(seconds)) from error

    def close(self) -> None:
        """Ends the process; what it was doing is lost."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[None]:
        def end() -> None:
            self._late = True
            self._process.kill()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _reason(self, seconds: float) -> str:
        status = self._process.returncode
        if self._late:
            return f"reading it took more than {seconds:g} s"
        if status == -signal.SIGXCPU:
            return "reading it took too much time of the processor"
        return f"it made its reader end ({exit_text(status)})"
