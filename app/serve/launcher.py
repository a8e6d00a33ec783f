"""The whole service on one machine and one data folder: broker, workers and API, started by one command.

The HTTP socket and the lock of the data folder are taken first, so that a taken port or a second start fails at once.
Children are stopped in the order API, workers, broker.
"""

import fcntl
import os
import socket
import sys
import time
from pathlib import Path

from app.health import not_ready_because
from app.serve import broker
from app.serve.addresses import local_address, network_address
from app.serve.supervisor import Child, Supervisor
from worker.jobs.storage_identity import claim_database
from worker.stores.opened import open_stores
from worker.stores.processes import exit_text
from worker.stores.settings import Settings, SettingsError, socket_path
from worker.stores.storage import open_storage
from worker.stores.tokens import TokenStore, check_exposure

TRAINING_STOP_SECONDS = 60.0
"""Time in which a stopping training worker finishes its step, writes a checkpoint and hands its job back."""

LEFTOVER_SECONDS = 20.0
"""Time that a start waits for the children of a killed launcher to stop."""

SLOW_START_SECONDS = 60.0
"""Time after which a start that is not ready says why."""


BROKER_SECONDS = 60.0
"""Time after which a broker that neither answers nor loads its data ends the start."""

STILL_WAITING_SECONDS = 10.0
"""Time between lines that say what the start waits for."""


class LaunchError(RuntimeError):
    """The service cannot start; the message is a sentence for the user."""


def say(text: str) -> None:
    """Prints one line of the launcher."""
    print(f"betavae: {text}", file=sys.stderr, flush=True)


def serve(settings: Settings) -> None:
    """Runs the whole service until Ctrl-C or SIGTERM.

    Args:
        settings: The settings of the service.

    Raises:
        LaunchError: The data folder, the port or the broker is not available.
        SettingsError: Other machines would reach the service, and there are no tokens.
    """
    tokens = TokenStore(open_storage(settings.storage, cache_folder=settings.cache_folder))
    check_exposure(settings, tokens)
    # With a new data folder the port is bound first, so that a taken port leaves no files. A data folder with a lock,
    # and the port, may be held by the children of a killed launcher, so the lock is waited for first.
    listener = None if (settings.home / "lock").exists() else bind(settings.host, settings.port)
    try:
        home = _data_folder(settings.home)
        lock = _lock(home)
    except LaunchError:
        if listener is not None:
            listener.close()
        raise
    listener = listener or bind(settings.host, settings.port)
    port = listener.getsockname()[1]
    environment = {**os.environ, **_environment(settings, home, port)}
    supervisor = Supervisor(environment, say, kept_fds=(lock,))
    try:
        if settings.redis_url is None:
            _start_broker(supervisor, settings.embedded_redis_folder, environment["BETAVAE_REDIS_URL"], lock)
        if not supervisor.stop_requested:
            _claim_database(settings.model_copy(update={"redis_url": environment["BETAVAE_REDIS_URL"], "home": home}))
        for child in _children(listener.fileno()):
            supervisor.add(child)
        say(f"starting on the data folder {home}")
        _run(supervisor, settings.host, port, settings.serves_other_machines and not tokens.exist())
    finally:
        supervisor.stop()
        listener.close()
        os.close(lock)
    say("stopped")


def _data_folder(home: Path) -> Path:
    """Makes the data folder, checks that it is writable, and returns its absolute path.

    Raises:
        LaunchError: The folder cannot be written.
    """
    home = home.expanduser().absolute()
    try:
        for folder in (home, home / "tmp", home / "redis"):
            folder.mkdir(parents=True, exist_ok=True)
        probe = home / "tmp" / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise LaunchError(f"The data folder {home} can't be written ({reason}); set BETAVAE_HOME.") from error
    return home


def _lock(home: Path) -> int:
    """Locks the data folder for this process and its children.

    Returns:
        The descriptor that holds the lock.

    Raises:
        LaunchError: Another process holds the lock, or the folder cannot be locked.
    """
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LEFTOVER_SECONDS
    said = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            if _alive(holder) or time.monotonic() > deadline:
                os.close(descriptor)
                who = f" (process {holder})" if holder else ""
                raise LaunchError(
                    f"Another betavae{who} already serves from the data folder {home}; stop it, or set BETAVAE_HOME "
                    "and BETAVAE_PORT to others."
                ) from None
            if not said:
                say("waiting for what a killed launcher left behind to stop")
                said = True
            time.sleep(0.1)
        except OSError as error:
            os.close(descriptor)
            raise LaunchError(f"The data folder {home} can't be locked ({error.strerror}).") from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _alive(pid: str) -> bool:
    """Returns whether the process that wrote its id into the lock still runs."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def bind(host: str, port: int) -> socket.socket:
    """Opens a listening TCP socket.

    Raises:
        LaunchError: The host is not an address of this machine, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # localhost means ::1 first on many machines, while people type 127.0.0.1.
        family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise LaunchError(f"The host {host!r} is not an address of this machine; set BETAVAE_HOST.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise LaunchError(
            f"Port {port} on {host} can't be had ({reason}); stop what uses it, or choose another with --port or "
            "BETAVAE_PORT."
        ) from error
    return listener


def _environment(settings: Settings, home: Path, port: int) -> dict[str, str]:
    """Returns the variables that the children need beside those of the launcher's own environment."""
    variables = {
        "BETAVAE_HOME": str(home),
        "BETAVAE_HOST": settings.host,
        "BETAVAE_PORT": str(port),
        "BETAVAE_DEVICE": settings.device,
        "BETAVAE_REDIS_URL": settings.redis_url or settings.embedded_redis_url,
        "TMPDIR": str(home / "tmp"),  # The system's folder may be in memory, and uploads are large.
        "PYTHONUNBUFFERED": "1",
    }
    if settings.storage_url is not None:
        variables["BETAVAE_STORAGE_URL"] = settings.storage_url
    return variables


def _children(listener: int) -> list[Child]:
    """Returns the API and the two workers, not started yet."""
    python = [sys.executable, "-P", "-m"]
    return [
        Child("worker-render", [*python, "worker", "render"], rank=1, stop_seconds=20.0),
        Child("worker-train", [*python, "worker", "train"], rank=1, stop_seconds=TRAINING_STOP_SECONDS),
        Child("api", [*python, "app.server", "--fd", str(listener)], rank=0, stop_seconds=10.0, pass_fds=(listener,)),
    ]


def _start_broker(supervisor: Supervisor, folder: Path, address: str, lock: int) -> None:
    """Starts the embedded broker and waits until it answers; if its files are damaged, starts once more without them.

    Args:
        supervisor: Keeps the broker running.
        folder: The folder of its files.
        address: The address at which it answers.
        lock: Descriptor of the data folder's lock, which the broker holds too.

    Raises:
        LaunchError: The broker does not start.
    """
    server = broker.find_server()
    path = socket_path(folder)
    child = Child("broker", broker.command(server, folder, path), rank=2, stop_seconds=15.0, pass_fds=(lock,))
    supervisor.add(child)
    if _wait_for_broker(supervisor, child, address):
        return
    assert child.process is not None
    supervisor.children.remove(child)
    reason = broker.log_tail(folder) or exit_text(child.process.returncode)
    if not any(folder.glob("appendonlydir/*")):
        raise LaunchError(f"The broker {server} did not start: {reason}")
    kept = broker.set_aside(folder)
    say(f"the broker's files are damaged ({reason}); kept as {kept.name}, jobs are rebuilt from storage")
    child = Child(child.name, child.command, rank=child.rank, stop_seconds=child.stop_seconds, pass_fds=(lock,))
    supervisor.add(child)
    if not _wait_for_broker(supervisor, child, address):
        raise LaunchError(f"The broker {server} did not start: {broker.log_tail(folder)}")


def _claim_database(settings: Settings) -> None:
    """Refuses a Redis database that belongs to another storage.

    Raises:
        LaunchError: It does, or the storage cannot be opened.
    """
    try:
        claim_database(settings, open_stores(settings).storage)
    except (SettingsError, ValueError, OSError) as error:
        raise LaunchError(f"{error}.") from error


def _wait_for_broker(supervisor: Supervisor, child: Child, address: str) -> bool:
    """Waits, for as long as the broker loads its data, until it answers.

    Returns:
        False if the broker ended; True if it answers or the service was asked to stop.

    Raises:
        LaunchError: The broker runs, but does not answer at its socket.
    """
    began = said = time.monotonic()
    while child.running and not supervisor.stop_requested:
        if not (reason := broker.answers(address)):
            return True
        now = time.monotonic()
        if reason != broker.LOADING and now - began > BROKER_SECONDS:
            raise LaunchError(f"The broker runs, but does not answer at its socket {address}: {reason}")
        if now - said > STILL_WAITING_SECONDS:
            said = now
            say(f"waiting for the broker: {reason}")
        supervisor.wait(0.02)
    return supervisor.stop_requested


def _run(supervisor: Supervisor, host: str, port: int, is_open: bool) -> None:
    """Keeps everything running until a signal asks to stop, and prints its addresses once the service is ready.

    Args:
        supervisor: Keeps the children running.
        host: The host that the service listens on.
        port: Its port.
        is_open: True if other machines reach the service without a token.
    """
    shown, network = local_address(host, port), network_address(host, port)
    started = time.monotonic()
    ready, said_slow = False, False
    while not supervisor.stop_requested:
        supervisor.restart_crashed()
        if not ready:
            missing = not_ready_because(host, port)
            if missing is None:
                ready = True
                say(f"ready on {shown} (Ctrl-C stops it)")
                _say_who_reaches_it(network, is_open)
            elif not said_slow and time.monotonic() - started > SLOW_START_SECONDS:
                said_slow = True
                say(f"not ready yet: {missing}")
        supervisor.wait(1.0 if ready else 0.1)
    say("stopping")


def _say_who_reaches_it(network: str | None, is_open: bool) -> None:
    """Prints the address for other machines, and a warning where they need no token."""
    if network is not None:
        say(f"from other machines: {network}")
    if is_open:
        say(
            "warning: there are no tokens, so everybody who reaches this address may do everything; "
            "`betavae tokens add NAME` makes one"
        )
