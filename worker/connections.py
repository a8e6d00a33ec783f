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

from worker.job_records import JobStoreUnavailable

_OPTIONS: dict[str, Any] = {
    # redis-py 8 picks RESP 3 by itself, which changes the shape of XREAD.
    "protocol": 2,
    "decode_responses": True,
    "socket_connect_timeout": 2,
    "socket_timeout": 10,
    "health_check_interval": 10,
}
_AWAY = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OutOfMemoryError)
BLOCK_SECONDS = 5.0
"""Longest wait in one blocking read; below the socket's timeout."""


def connect(url: str) -> Any:
    """A Redis client; nothing is sent yet. One retry hides a server that was restarted since the last call."""
    return redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 1), **_OPTIONS)


def connect_async(url: str) -> Any:
    """An asyncio Redis client, for follow_events."""
    return redis.asyncio.Redis.from_url(url, retry=AsyncRetry(ConstantBackoff(0.05), 1), **_OPTIONS)


@contextmanager
def reaching_redis() -> Iterator[None]:
    """Turns whatever says that Redis is away, or cannot write, into JobStoreUnavailable."""
    try:
        yield
    except _AWAY as error:
        raise JobStoreUnavailable(f"Redis does not answer: {error}") from error
