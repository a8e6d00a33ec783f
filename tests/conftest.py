"""Shared fixtures: a real Redis-protocol server, stores over it, and the command line."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from redis_support import serve_redis

from app.cli import main as cli
from worker.jobs.connections import connect
from worker.jobs.store import JobStore
from worker.stores.storage import LocalStorage

# This is set before anything imports torch. On two cores with ten other processes, a step of a small network took
# 2584 ms with two threads that wait for each other, and 51 ms with one.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def betavae(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A function that runs a command in this process on a data folder of its own, and returns the exit code."""
    monkeypatch.setenv("BETAVAE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BETAVAE_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["betavae", *map(str, arguments)])
        with patch.dict(os.environ), pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return end.value.code

    return run


@pytest.fixture(scope="module")
def redis_process() -> Iterator[str]:
    """The URL of a server for the tests of one module: a worker of another module would take their jobs."""
    with serve_redis() as url:
        yield url


@pytest.fixture
def redis_server(redis_process: str) -> str:
    """The URL of an empty Redis."""
    client = connect(redis_process)
    client.flushall()
    client.close()
    return redis_process


@pytest.fixture
def redis_client(redis_server: str) -> Iterator[Any]:
    """A client of an empty Redis."""
    client = connect(redis_server)
    yield client
    client.close()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """An empty local storage."""
    return LocalStorage(tmp_path / "home")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 16 MiB in memory; the test is skipped where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def make_job_store(redis_client: Any, storage: LocalStorage) -> Callable[..., JobStore]:
    """A factory of job stores over the test's Redis and storage; keyword arguments go to JobStore."""

    def make(**options: Any) -> JobStore:
        return JobStore(redis_client, storage, **options)

    return make


@pytest.fixture
def job_store(make_job_store: Callable[..., JobStore]) -> JobStore:
    """A job store that sends no messages."""
    return make_job_store()
