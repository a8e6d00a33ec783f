"""The child of parsing_pool and model_child, which reads foreign files one by one within limits.

It loads torch only for files of models.
"""

import os
import resource
import signal
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from models.bundles import ImportRefused
from models.info import Preprocessing
from training.data.datasets import (
    ArrayFile,
    DatasetError,
    ImageFolder,
    Limits,
    Source,
    ZipFile,
    count_images,
    num_channels_of,
    sample_of,
)
from training.data.images import ImageError, load_image
from training.data.picture_files import check_zip
from worker.stores.children import limit_memory, read_frame, write_frame

_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (ArrayFile, ImageFolder, ZipFile)}


def source_to_json(source: ArrayFile | ImageFolder | ZipFile) -> dict[str, Any]:
    """Returns a source as it is sent to a child."""
    return {"kind": type(source).__name__, **asdict(source)}


def main() -> int:
    """Runs the child: answers frames until standard input ends."""
    # The parent handles a signal to the whole process group and closes the pipe.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints must not be read as an answer.
    while True:
        try:
            head, body = read_frame(sys.stdin.buffer)
        except EOFError:
            return 0
        if head["task"] == "model":
            import_module("models.converters")  # The limits are for the file, and torch takes more than they allow.
        _limit(head["memory_bytes"], head["cpu_seconds"])
        try:
            _answer(head, body, answers)
        except (ImageError, DatasetError, ImportRefused) as error:
            write_frame(answers, {"code": error.code, "message": error.message})
        except MemoryError:
            write_frame(answers, {"code": "memory", "message": "it does not fit into the memory for one file"})
        except OSError as error:
            message = f"it cannot be read: {error.strerror or error}"
            write_frame(answers, {"code": "unreadable", "message": message, "errno": error.errno})


def _answer(head: dict[str, Any], body: bytes, answers: IO[bytes]) -> None:
    if head["task"] == "picture":

        def wait_for_memory(num_bytes: int) -> None:
            write_frame(answers, {"cost": num_bytes})
            read_frame(sys.stdin.buffer)

        preprocessing = Preprocessing(**head["preprocessing"])
        pixels = load_image(body, preprocessing, max_pixels=head["max_pixels"], on_cost=wait_for_memory)
        write_frame(answers, {"shape": pixels.shape}, pixels.tobytes())
    elif head["task"] == "channels":
        write_frame(answers, {"num_channels": num_channels_of(_source(head["source"]), Limits(**head["limits"]))})
    elif head["task"] == "count":
        write_frame(answers, {"num_images": count_images(_source(head["source"]), Limits(**head["limits"]))})
    elif head["task"] == "sample":
        source, preprocessing = _source(head["source"]), Preprocessing(**head["preprocessing"])
        pixels = sample_of(source, preprocessing, head["count"], Limits(**head["limits"]))
        write_frame(answers, {"shape": pixels.shape}, pixels.tobytes())
    elif head["task"] == "model":
        _convert(head, body)
        write_frame(answers, {})
    else:
        check_zip(Path(head["path"]), Limits(**head["limits"]), name=head["name"])
        write_frame(answers, {})


def _convert(head: dict[str, Any], body: bytes) -> None:
    """Writes the folder of a model.

    Raises:
        ImportRefused: The file is not a model.
        OSError: The folder cannot be written.
    """
    from models.converters import import_model

    num_spec = head["spec_bytes"] or 0
    spec = None if head["spec_bytes"] is None else body[:num_spec]
    file = body[num_spec:] if head["path"] is None else Path(head["path"])
    import_model(Path(head["target"]), file, spec=spec, name=head["name"], format=head["format"])


def _source(fields: dict[str, Any]) -> Source:
    kind = fields.pop("kind")
    source: Source = _KINDS[kind](**{**fields, "path": Path(fields["path"])})
    return source


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    """Bounds the address space and the processor time that this process may take beyond what it has taken."""
    limit_memory(memory_bytes)
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


if __name__ == "__main__":
    status = main()
    os._exit(status)
