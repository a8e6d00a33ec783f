"""Connections to Redis, and the one error that says that it is away; free of torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from worker.jobs.records import JobStoreUnavailable

_OPTIONS: dict[str, Any] = {
    # redis-py 8 picks RESP 3 by itself, which changes the shape of XREAD.
    "protocol": 2,
    "decode_responses": True,
    "socket_connect_timeout": 2,
    "socket_timeout": 10,
    "health_check_interval": 10,
}
IMPATIENT: dict[str, Any] = {"socket_connect_timeout": 2, "socket_timeout": 4}
"""For whoever has a client of its own waiting: a server that takes the connection and is silent is given up soon."""
_AWAY = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OutOfMemoryError)
BLOCK_SECONDS = 5.0
"""Longest wait in one blocking read; below the socket's timeout."""


def connect(url: str, *, patient: bool = True) -> Any:
    """A Redis client; nothing is sent yet. One retry hides a server that was restarted since the last call.

    Args: patient, whether a server that is silent is waited for: 20 s in all, else 4. Blocking reads need it.
    """
    if patient:
        return redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 1), **_OPTIONS)
    return redis.Redis.from_url(
        url, retry=Retry(ConstantBackoff(0.05), 1, (RedisConnectionError,)), **{**_OPTIONS, **IMPATIENT}
    )


def connect_async(url: str, **options: Any) -> Any:
    """An asyncio Redis client, for follow_events; silence past the longest blocking read ends it at once.

    Args: options, instead of ours.
    """
    retry = AsyncRetry(ConstantBackoff(0.05), 1, (RedisConnectionError,))
    return redis.asyncio.Redis.from_url(url, retry=retry, **{**_OPTIONS, **options})


@contextmanager
def reaching_redis() -> Iterator[None]:
    """Turns whatever says that Redis is away, or cannot write, into JobStoreUnavailable."""
    try:
        yield
    except _AWAY as error:
        raise JobStoreUnavailable(f"Redis does not answer: {error}") from error
