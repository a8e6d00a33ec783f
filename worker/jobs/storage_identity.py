"""The storage that a Redis database belongs to, and whether Redis keeps what it holds. This module loads no torch.

Job records in Redis name data sets and models of one storage. A service with another storage would take its jobs and
fail them for good, since it has neither.
"""

import logging
import time
import uuid
from typing import Any

from redis.exceptions import RedisError

from worker.jobs.connections import connect
from worker.jobs.scripts import PREFIX
from worker.stores.redis_urls import without_password
from worker.stores.settings import Settings, SettingsError
from worker.stores.storage import NotStored, Storage

log = logging.getLogger(__name__)

STORAGE_KEY = f"{PREFIX}storage"
"""The key in Redis with the id of the storage."""
IDENTITY_FILE = "storage.json"
"""The key in the storage with its id."""
_RACE_SECONDS = 3.0
"""Longest wait for another process of the same service that is writing the id of a new storage."""


def claim_database(settings: Settings, storage: Storage) -> None:
    """Records in Redis which storage it belongs to, and refuses a database that belongs to another one.

    Nothing is checked while Redis does not answer.

    Args:
        settings: The settings, with a redis_url.
        storage: The storage.

    Raises:
        SettingsError: The database belongs to another storage.
    """
    client = connect(settings.redis_url or settings.embedded_redis_url, patient=False)
    try:
        _claim(client, settings, storage)
        if warning := _eviction(client):
            log.warning("%s", warning)
    except RedisError as error:
        log.warning("whether the Redis database belongs to this storage is not known: %s", error)
    finally:
        client.close()


def _claim(client: Any, settings: Settings, storage: Storage) -> None:
    own = _identity(storage)
    candidate = own or uuid.uuid4().hex
    if client.set(STORAGE_KEY, candidate, nx=True):
        try:
            if own is None:
                storage.write_json(IDENTITY_FILE, {"format_version": 1, "id": candidate})
        except OSError:
            client.delete(STORAGE_KEY)
            raise
        return
    owner = client.get(STORAGE_KEY)
    deadline = time.monotonic() + _RACE_SECONDS
    while own is None and time.monotonic() < deadline:
        time.sleep(0.1)
        own = _identity(storage)
    if own != owner:
        raise SettingsError(
            f"the Redis database {without_password(settings.redis_url or settings.embedded_redis_url)} belongs to "
            f"another storage than {without_password(settings.storage)}; set BETAVAE_REDIS_URL to a "
            "database of this service's own, such as …/1, or BETAVAE_STORAGE_URL and BETAVAE_HOME to the storage "
            "that it belongs to"
        )


def _eviction(client: Any) -> str | None:
    """Returns a warning if Redis removes keys when its memory is full; a job's record could be among them."""
    policy = client.info("memory").get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return f"Redis may remove jobs when its memory is full (maxmemory-policy {policy}); set maxmemory-policy noeviction"


def _identity(storage: Storage) -> str | None:
    try:
        return str(storage.read_json(IDENTITY_FILE)["id"])
    except (NotStored, ValueError, KeyError, TypeError):
        return None
