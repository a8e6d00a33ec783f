"""A Redis database belongs to one storage; a service with another one is refused."""

import threading
from pathlib import Path

import pytest

from worker.jobs.connections import connect
from worker.jobs.storage_identity import IDENTITY_FILE, STORAGE_KEY, claim_database
from worker.stores.settings import Settings, SettingsError
from worker.stores.storage import LocalStorage


def claim(home: Path, url: str) -> None:
    claim_database(Settings(home=home, redis_url=url), LocalStorage(home))


def test_a_second_storage_is_refused_and_another_database_works(tmp_path: Path, redis_server: str) -> None:
    claim(tmp_path / "one", redis_server)
    claim(tmp_path / "one", redis_server)
    for _ in range(2):
        with pytest.raises(SettingsError, match=r"belongs to another storage than .*two; set BETAVAE_REDIS_URL"):
            claim(tmp_path / "two", redis_server)
    assert not (tmp_path / "two" / IDENTITY_FILE).exists()
    other = redis_server.replace("db=0", "db=5")
    connect(other).delete(STORAGE_KEY)
    claim(tmp_path / "two", other)
    with pytest.raises(SettingsError):
        claim(tmp_path / "one", other)
    connect(other).delete(STORAGE_KEY)


def test_an_emptied_redis_is_claimed_again(tmp_path: Path, redis_server: str) -> None:
    claim(tmp_path, redis_server)
    identity = LocalStorage(tmp_path).read_json(IDENTITY_FILE)["id"]
    client = connect(redis_server)
    client.delete(STORAGE_KEY)
    claim(tmp_path, redis_server)
    assert client.get(STORAGE_KEY) == identity


def test_the_processes_of_a_new_service_agree(tmp_path: Path, redis_server: str) -> None:
    failed: list[SettingsError] = []

    def start() -> None:
        try:
            claim(tmp_path, redis_server)
        except SettingsError as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert connect(redis_server).get(STORAGE_KEY) == LocalStorage(tmp_path).read_json(IDENTITY_FILE)["id"]


def test_nothing_is_refused_while_redis_is_away(tmp_path: Path) -> None:
    claim(tmp_path, f"unix://{tmp_path}/none.sock")
    assert not (tmp_path / IDENTITY_FILE).exists()


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru", "volatile-ttl"])
def test_a_redis_that_evicts_is_warned_of(
    policy: str, tmp_path: Path, redis_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(redis_server)
    client.config_set("maxmemory-policy", policy)
    try:
        claim(tmp_path, redis_server)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    warned = [record.getMessage() for record in caplog.records if policy in record.getMessage()]
    assert len(warned) == (policy != "noeviction")
