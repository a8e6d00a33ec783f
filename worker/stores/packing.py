"""Packing in a child process, so that a worker's interpreter lock stays free for its other threads.

When threads of the render worker packed dSprites, they left so little of the lock that a traversal of 2 s took 18 s,
and the next ones waited for minutes.

The two processes exchange lines of JSON. The child reports its progress and goes on when the parent answers, so it does
no further work for a parent that was frozen, has died, or no longer needs the pack. This module loads no torch.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from models.info import Preprocessing
from training.data.datasets import (
    ArrayFile,
    BuiltIn,
    DatasetError,
    ImageFolder,
    Limits,
    OnProgress,
    Source,
    ZipFile,
    pack_dataset,
)
from worker.stores.children import child_environment, limit_memory
from worker.stores.processes import exit_text

CHECK_SECONDS = 0.25
REPORT_SECONDS = 0.2
END_SECONDS = 0.5
"""Longest wait for a stopping child; after that a thread waits for it."""
KILL_SECONDS = 15.0
"""Time after which a child that does not stop is killed."""
SILENT_SECONDS = 900.0
"""Longest time without a report of progress; the digest of 100 GB, the longest honest stretch, takes five minutes."""
PACK_SECONDS = 24 * 3600.0
"""Longest time of a packing."""
MEMORY_BYTES = 6 * 2**30
"""Address space for the packing of foreign files: decoded pictures, blocks, labels, and the stacks of threads."""
NICENESS = 5
"""Niceness of the child, with which traversals come first, and a packing still proceeds beside trainings."""

_SOURCES: dict[str, Any] = {kind.__name__: kind for kind in (ArrayFile, BuiltIn, ImageFolder, ZipFile)}


class PackingDied(RuntimeError):
    """The packing process ended without a result: it was killed, passed a deadline, or has a bug."""


class PackingLate(PackingDied):
    """The packing process was silent, or took, too long."""


class _NotWanted(Exception):
    """The parent is gone, or no longer needs the pack."""


def pack_in_child(
    source: Source,
    target_folder: Path,
    preprocessing: Preprocessing,
    *,
    name: str,
    on_progress: OnProgress,
    check: Callable[[], None],
    limits: Limits | None = None,
) -> None:
    """Packs a data set, like training.data.datasets.pack_dataset, in a process of lower priority.

    If this call ends early, the process stops at its next report of progress; a pack that is complete by then appears.

    Args:
        source: Where the pictures come from.
        target_folder: Folder of the pack.
        preprocessing: Preprocessing of the pack.
        name: Name of the data set.
        on_progress: Called with the number of images that are done and of all images; may raise to stop.
        check: Called a few times a second, also while the child is silent; may raise to stop.
        limits: Limits of the pictures; None takes the default ones.

    Raises:
        DatasetError: The data set cannot be packed.
        OSError: Files cannot be read or written.
        PackingDied: The child ended without a result.
    """
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "worker.stores.packing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        _say(child.stdin, _request(source, target_folder, preprocessing, name, limits or Limits()))
        for message in _messages(child.stdout, check):
            if "error" in message:
                raise _error(message["error"])
            if "packed" in message:
                return
            on_progress(message["done"], message["total"])
            _say(child.stdin, {})
        raise PackingDied(f"the process that packs the data set {_ending(child)}")
    except BrokenPipeError:
        raise PackingDied(f"the process that packs the data set {_ending(child)}") from None
    finally:
        _end(child)


def _request(source: Source, folder: Path, preprocessing: Preprocessing, name: str, limits: Limits) -> dict[str, Any]:
    return {
        "source": {"kind": type(source).__name__, **asdict(source)},
        "folder": folder,
        "preprocessing": preprocessing.model_dump(),
        "name": name,
        "limits": asdict(limits),
        "memory_bytes": MEMORY_BYTES,
    }


def _say(pipe: IO[bytes], message: dict[str, Any]) -> None:
    pipe.write(json.dumps(message, default=str).encode() + b"\n")
    pipe.flush()


def _messages(pipe: IO[bytes], check: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Yields the messages of a process until it closes the pipe, and calls `check` while it waits.

    Raises:
        PackingLate: The process was silent, or took, too long.
    """
    waiting = b""
    began = heard = time.monotonic()
    while True:
        check()
        if not select.select([pipe], [], [], CHECK_SECONDS)[0]:
            if time.monotonic() - heard > SILENT_SECONDS:
                raise PackingLate(f"nothing was packed for {SILENT_SECONDS:g} s")
            continue
        data = os.read(pipe.fileno(), 65536)
        if not data:
            return
        heard = time.monotonic()
        if heard - began > PACK_SECONDS:
            raise PackingLate(f"the packing took more than {PACK_SECONDS / 3600:g} h")
        *lines, waiting = (waiting + data).split(b"\n")
        yield from map(json.loads, lines)


def _error(error: dict[str, Any]) -> Exception:
    if error["kind"] == "dataset":
        return DatasetError(error["code"], error["message"])
    return OSError(error["errno"], error["strerror"], error["filename"])


def _ending(child: subprocess.Popen[bytes]) -> str:
    """Returns how a child ended."""
    with suppress(subprocess.TimeoutExpired):
        status = child.wait(END_SECONDS)
        return exit_text(status) + (": out of memory?" if status == -signal.SIGKILL else "")
    return "closed its pipe and goes on"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Closes the pipes of a child, which then ends; a child that does not end is killed later."""
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
    try:
        child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        threading.Thread(target=_wait_or_kill, args=(child,), name="end of packing", daemon=True).start()


def _wait_or_kill(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(KILL_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def main() -> int:
    """Runs the child: packs what the first line of standard input describes."""
    # The parent handles a signal to the whole process group and decides whether the packing goes on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # The output of a library must not be read as a message.
    request = json.loads(sys.stdin.buffer.readline())
    progress = _Progress(answers)
    if request["source"]["kind"] != BuiltIn.__name__:
        limit_memory(request["memory_bytes"])
    try:
        pack_dataset(
            _source(request["source"]),
            Path(request["folder"]),
            Preprocessing(**request["preprocessing"]),
            name=request["name"],
            on_progress=progress,
            limits=Limits(**request["limits"]),
        )
        _say(answers, {"packed": True})
    except (_NotWanted, BrokenPipeError):
        return 1
    except DatasetError as error:
        _say(answers, {"error": {"kind": "dataset", "code": error.code, "message": error.message}})
    except MemoryError:
        message = f"packing it takes more than {request['memory_bytes'] >> 20} MiB of memory"
        _say(answers, {"error": {"kind": "dataset", "code": "no_memory", "message": message}})
    except OSError as error:
        facts = {"errno": error.errno, "strerror": error.strerror or str(error), "filename": error.filename}
        _say(answers, {"error": {"kind": "os", **facts}})
    return 0


def _source(fields: dict[str, Any]) -> Source:
    kind = fields.pop("kind")
    if "path" in fields:
        fields["path"] = Path(fields["path"])
    source: Source = _SOURCES[kind](**fields)
    return source


class _Progress:
    """The on_progress of the packing: reports to the parent, and waits for its answer."""

    def __init__(self, answers: IO[bytes]) -> None:
        self._answers = answers
        self._reported = float("-inf")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._reported < REPORT_SECONDS:
            return
        self._reported = now
        try:
            _say(self._answers, {"done": done, "total": total})
        except OSError:
            raise _NotWanted from None
        if not sys.stdin.buffer.readline():
            raise _NotWanted


if __name__ == "__main__":
    status = main()
    # sys.exit would take longer, while the parent waits and every file is written.
    os._exit(status)
