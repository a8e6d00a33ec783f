"""Conversion of foreign model files in a child process that may die. This module loads no torch."""

import threading
from pathlib import Path

from models.bundles import ImportRefused
from worker.stores.children import ParserDied, ParsingChild

MODEL_SECONDS = 50.0
"""Wall time for one file, with the start of the child, which loads torch; the caller waits 60 s at most."""
MODEL_CPU_SECONDS = 20
"""Processor time for one file; the largest takes less than one second."""
_MODEL_BYTES = 2**30
"""Address space for one file: its bytes, the unpacked weights (at most 32 MiB each), and copies as tensors."""
IDLE_SECONDS = 60.0
"""Time after which an idle child ends, since torch takes 250 MB and two seconds to load."""


class ModelConverter:
    """A child that converts one model file after another. It starts when it is first needed."""

    def __init__(self, *, seconds: float = MODEL_SECONDS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._seconds, self._idle_seconds = seconds, idle_seconds
        self._lock = threading.Lock()
        self._child: ParsingChild | None = None
        self._ending: threading.Timer | None = None

    @property
    def child_pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        child = self._child
        return None if child is None else child.pid

    def convert(
        self, target: Path, file: Path | bytes, *, spec: bytes | None = None, name: str = "", format: str = "auto"
    ) -> None:
        """Converts a file to a model's folder, like models.converters.import_model.

        Args:
            target: The folder to write.
            file: A path, or the file's bytes.
            spec: The description beside the file, where the format has one.
            name: A valid name of the model; empty takes the file's own.
            format: Format of the file, or auto.

        Raises:
            ImportRefused: The file is not a model; parser_died if the child died while it read the file.
            OSError: The folder cannot be written.
        """
        request = {
            "task": "model",
            "target": target,
            "path": None if isinstance(file, bytes) else file,
            "spec_bytes": None if spec is None else len(spec),
            "name": name,
            "format": format,
            "memory_bytes": _MODEL_BYTES,
            "cpu_seconds": MODEL_CPU_SECONDS,
        }
        body = (spec or b"") + (file if isinstance(file, bytes) else b"")
        with self._lock:
            child = self._take()
            try:
                head, _ = child.ask(request, body, seconds=self._seconds)
            except ParserDied as died:
                self._child = None
                raise ImportRefused("parser_died", f"the file cannot be read: {died}") from died
            self._ending = threading.Timer(self._idle_seconds, self.close)
            self._ending.daemon = True
            self._ending.start()
        if head.get("errno") is not None:
            raise OSError(head["errno"], head["message"])
        if "code" in head:
            raise ImportRefused("too_large" if head["code"] == "memory" else head["code"], head["message"])

    def close(self) -> None:
        """Ends the child if it is idle."""
        with self._lock:
            if self._child is not None:
                self._child.close()
            self._child = None

    def _take(self) -> ParsingChild:
        if self._ending is not None:
            self._ending.cancel()
        if self._child is not None and not self._child.is_alive:
            self._child.close()
            self._child = None
        self._child = self._child or ParsingChild()
        return self._child
