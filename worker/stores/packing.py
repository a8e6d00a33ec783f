"""Packing in a process of its own, so that a worker's interpreter lock stays free for its other threads; free of torch.

Packed by threads of the render worker, dSprites left so little of the lock that a traversal of 2 s took 18 s, and those
behind it waited for minutes.

The two processes speak in lines of JSON. The child tells how far it is and goes on when the parent says so: a parent
that was frozen, or has died, or wants no pack any more, lets the child begin nothing further.
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
from worker.stores.children import child_environment, exit_text, limit_memory

CHECK_SECONDS = 0.25
TELL_SECONDS = 0.2
END_SECONDS = 0.5
"""How long a child that is told to stop is waited for; after that it is left to end by itself."""
KILL_SECONDS = 15.0
SILENT_SECONDS = 900.0
"""How long a child may work on one stretch; the longest of an honest set, the digest of 100 GB, takes five minutes."""
PACK_SECONDS = 24 * 3600.0
"""How long a packing may take in all."""
MEMORY_BYTES = 6 * 2**30
"""Address space of the packing of somebody's files: pictures being decoded, blocks, labels, and room for threads."""
NICENESS = 5
"""Of the child: traversals come first, and a packing beside trainings still gets on."""

_SOURCES: dict[str, Any] = {kind.__name__: kind for kind in (ArrayFile, BuiltIn, ImageFolder, ZipFile)}


class PackingDied(RuntimeError):
    """The process that packed ended without a word (it was killed, or has a bug), or was ended at its deadline."""


class _NotWanted(Exception):
    """The parent is gone, or wants no pack any more."""


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
    """As training.data.datasets.pack_dataset, in a process of lower priority.

    When this call ends early, the process is told to stop; it may finish the stretch that it is at, so that a complete
    pack may still appear.

    Args: check, called a few times a second, however long the child is silent; raises to stop.
    Raises: what on_progress and check raise; DatasetError, OSError as pack_dataset does; PackingDied.
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
        raise PackingDied(f"the process that packs the data set ended ({_exit_text(child)})")
    except BrokenPipeError:
        raise PackingDied(f"the process that packs the data set ended ({_exit_text(child)})") from None
    finally:
        _end(child)


def _request(source: Source, folder: Path, preprocessing: Preprocessing, name: str, limits: Limits) -> dict[str, Any]:
    return {
        "source": {"kind": type(source).__name__, **asdict(source)},
        "folder": folder,
        "preprocessing": asdict(preprocessing),
        "name": name,
        "limits": asdict(limits),
        "memory_bytes": MEMORY_BYTES,
    }


def _say(pipe: IO[bytes], message: dict[str, Any]) -> None:
    pipe.write(json.dumps(message, default=str).encode() + b"\n")
    pipe.flush()


def _messages(pipe: IO[bytes], check: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """What a process says, line by line, until it closes the pipe. Raises PackingDied when it is silent, or takes, too
    long."""
    waiting = b""
    began = heard = time.monotonic()
    while True:
        check()
        if not select.select([pipe], [], [], CHECK_SECONDS)[0]:
            if time.monotonic() - heard > SILENT_SECONDS:
                raise PackingDied(f"nothing was packed for {SILENT_SECONDS:g} s")
            continue
        data = os.read(pipe.fileno(), 65536)
        if not data:
            return
        heard = time.monotonic()
        if heard - began > PACK_SECONDS:
            raise PackingDied(f"the packing took more than {PACK_SECONDS / 3600:g} h")
        *lines, waiting = (waiting + data).split(b"\n")
        yield from map(json.loads, lines)


def _error(error: dict[str, Any]) -> Exception:
    if error["kind"] == "dataset":
        return DatasetError(error["code"], error["message"])
    return OSError(error["errno"], error["strerror"], error["filename"])


def _exit_text(child: subprocess.Popen[bytes]) -> str:
    with suppress(subprocess.TimeoutExpired):
        child.wait(END_SECONDS)
    return exit_text(child.returncode)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Lets go of a child, which ends when it notices; one that does not is killed later."""
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
    """The child: packs what the first line of standard input asks for."""
    # A signal to the whole process group is the parent's business: it decides what becomes of the packing.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever a library prints is no message.
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
        message = f"packing it takes more than the {request['memory_bytes'] >> 20} MiB that it may"
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
    """on_progress of the packing: tells the parent, and waits for its leave to go on."""

    def __init__(self, answers: IO[bytes]) -> None:
        self._answers = answers
        self._told = float("-inf")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._told < TELL_SECONDS:
            return
        self._told = now
        try:
            _say(self._answers, {"done": done, "total": total})
        except OSError:
            raise _NotWanted from None
        if not sys.stdin.buffer.readline():
            raise _NotWanted


if __name__ == "__main__":
    status = main()
    # Not sys.exit: the parent waits, and all that lasts is written.
    os._exit(status)
