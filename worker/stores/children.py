"""Child processes that read foreign files: a parser may crash, hang or grow there, and is then killed.

Parent and child exchange frames: a line of JSON, whose `size` is the number of bytes that follow. This module loads no
torch.
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

from worker.stores.deadlines import passed
from worker.stores.processes import exit_text

_LONGEST_HEAD = 2**20


class ParserDied(RuntimeError):
    """The process that read a foreign file ended without an answer; the message says why."""


def child_environment() -> dict[str, str]:
    """Returns the environment in which a child finds our modules, wherever this process was started."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # numpy would start a thread per processor, though nothing here multiplies matrices.
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def write_frame(pipe: IO[bytes], head: dict[str, Any], body: bytes | memoryview = b"") -> None:
    """Sends a frame.

    Args:
        pipe: Where it goes.
        head: Fields of the line of JSON; `size` is added.
        body: The bytes that follow.

    Raises:
        OSError: The other side has closed the pipe.
    """
    pipe.write(json.dumps({**head, "size": len(body)}, default=str).encode() + b"\n")
    pipe.write(body)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Waits for a frame and returns its head and body.

    Raises:
        EOFError: The other side has ended.
    """
    line = pipe.readline(_LONGEST_HEAD)
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    body = pipe.read(head["size"])
    if len(body) < head["size"]:
        raise EOFError
    return head, body


def limit_memory(num_bytes: int) -> None:
    """Bounds the address space that this process may take beyond what it has, and disables its core dumps."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
    except FileNotFoundError:  # Outside Linux the mapped size is unknown, and the limit does not hold.
        return
    resource.setrlimit(resource.RLIMIT_AS, (mapped + num_bytes, resource.RLIM_INFINITY))


class ParsingChild:
    """A process that runs worker.stores.parsing, as its parent controls it."""

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
        """Process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    def ask(self, head: dict[str, Any], body: bytes = b"", *, seconds: float) -> tuple[dict[str, Any], bytes]:
        """Sends a frame and waits for its answer.

        Args:
            head: The task, as worker.stores.parsing reads it.
            body: The bytes that belong to it.
            seconds: Wall time after which the child is killed.

        Returns:
            Head and body of the answer.

        Raises:
            ParserDied: The child was killed, or ended by itself.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._deadline(seconds):
            try:
                write_frame(self._process.stdin, head, body)
                return read_frame(self._process.stdout)
            except (OSError, EOFError, ValueError) as error:
                self.close()
                if self._late or self._process.returncode == -signal.SIGXCPU:
                    passed("parsing")
                raise ParserDied(self._reason(seconds)) from error

    def close(self) -> None:
        """Kills the process and closes its pipes."""
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
            return "reading it took too much processor time"
        return f"the process that read it {exit_text(status)}"
