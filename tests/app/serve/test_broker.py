"""The embedded broker with a real server."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from app.serve import broker
from worker.stores.redis_urls import socket_url
from worker.stores.settings import socket_path

Start = Callable[[Path], tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server on a folder, waits until it answers, and returns its process and URL."""
    processes: list[subprocess.Popen[bytes]] = []

    def start_server(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
        folder.mkdir(exist_ok=True)
        path = socket_path(folder)
        processes.append(subprocess.Popen(broker.command(broker.find_server(), folder, path)))
        address = socket_url(path)
        while broker.answers(address) and processes[-1].poll() is None:
            pass
        return processes[-1], address

    yield start_server
    for process in processes:
        process.kill()
        process.wait()


def test_written_data_survives_kill_9(start: Start, tmp_path: Path) -> None:
    process, address = start(tmp_path / "redis")
    with redis.Redis.from_url(address, protocol=2) as client:
        client.set("job", "queued")
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, address = start(tmp_path / "redis")
    with redis.Redis.from_url(address, protocol=2) as client:
        assert client.get("job") == b"queued"


def test_the_socket_belongs_to_its_user_and_no_port_is_open(start: Start, tmp_path: Path) -> None:
    _, address = start(tmp_path / "redis")
    assert (tmp_path / "redis" / "broker.sock").stat().st_mode & 0o777 == 0o600
    with redis.Redis.from_url(address, protocol=2) as client:
        assert client.config_get("port") == {"port": "0"}


def test_a_damaged_append_only_file_stops_the_server_and_can_be_set_aside(start: Start, tmp_path: Path) -> None:
    process, _ = start(tmp_path / "redis")
    process.kill()
    process.wait()
    for file in (tmp_path / "redis" / "appendonlydir").glob("*.incr.aof"):
        file.write_bytes(b"*3\r\n$3\r\nSET\r\n$bad\r\n" * 10)
    process, address = start(tmp_path / "redis")
    assert process.wait() != 0
    assert broker.log_tail(tmp_path / "redis")

    kept = broker.set_aside(tmp_path / "redis")

    assert (kept / "appendonlydir").is_dir()
    assert not broker.answers(start(tmp_path / "redis")[1])
    assert address == socket_url(socket_path(tmp_path / "redis"))


def test_a_missing_server_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker.os, "access", lambda *_: False)  # type: ignore[attr-defined]
    monkeypatch.setattr(broker.shutil, "which", lambda _: None)  # type: ignore[attr-defined]
    with pytest.raises(broker.BrokerError, match="BETAVAE_REDIS_URL"):
        broker.find_server()


def test_the_reason_why_a_server_does_not_answer_is_reported(tmp_path: Path) -> None:
    assert "broker.sock" in broker.answers(socket_url(tmp_path / "broker.sock"))
