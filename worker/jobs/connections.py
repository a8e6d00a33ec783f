"""Connections to Redis, whose failures all become one error. This module loads no torch."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from worker.jobs.clock import current_clock
from worker.jobs.records import JobStoreReadOnly, JobStoreUnavailable

_OPTIONS: dict[str, Any] = {
    # redis-py 8 chooses RESP 3 by itself, which changes the shape of XREAD's answer.
    "protocol": 2,
    "decode_responses": True,
    "socket_connect_timeout": 2,
    "socket_timeout": 10,
    "health_check_interval": 10,
}
IMPATIENT: dict[str, Any] = {"socket_connect_timeout": 2, "socket_timeout": 2}
"""Options for a process whose own client or training waits: they give up soon on a server that does not answer."""
_AWAY = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OutOfMemoryError)
BLOCK_SECONDS = 5.0
"""Longest wait in one blocking read; it is below the socket's timeout."""


def connect(url: str, *, patient: bool = True) -> Any:
    """Returns a Redis client, which has sent nothing yet.

    One retry hides a server that was restarted since the last call.

    Args:
        url: Address of the server: redis://, rediss:// or unix://.
        patient: True waits 20 s in all for a silent server, which long blocking reads need; False waits 2 s.
    """
    if patient:
        return redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 1), **_OPTIONS)
    return redis.Redis.from_url(
        url, retry=Retry(ConstantBackoff(0.05), 1, (RedisConnectionError,)), **{**_OPTIONS, **IMPATIENT}
    )


def connect_async(url: str, **options: Any) -> Any:
    """Returns an asyncio Redis client for `follow_events`, which raises when a server is silent for too long.

    Args:
        url: Address of the server.
        **options: Options of redis-py that replace the service's own.
    """
    retry = AsyncRetry(ConstantBackoff(0.05), 1, (RedisConnectionError,))
    return redis.asyncio.Redis.from_url(url, retry=retry, **{**_OPTIONS, **options})


@contextmanager
def reaching_redis(*, waits: bool = False) -> Iterator[None]:
    """Turns every error that says that Redis is away, or cannot write, into JobStoreUnavailable.

    Args:
        waits: True for a read that waits for an event, whose time is none that Redis took.
    """
    clock = None if waits else current_clock()
    try:
        with clock.call() if clock else nullcontext():
            yield
    except _AWAY as error:
        raise JobStoreUnavailable(f"Redis does not answer: {error}") from error
    except ResponseError as error:
        if not is_misconf(error):
            raise
        raise JobStoreReadOnly(f"Redis cannot write its file: {error}") from error


def is_misconf(error: ResponseError) -> bool:
    """Returns whether Redis refused a command because it cannot write its file, which a full disk causes."""
    return str(error).startswith("MISCONF")


def check_writable(client: Any) -> None:
    """Returns if Redis can write its file.

    Raises:
        JobStoreUnavailable: Redis is away.
        JobStoreReadOnly: Redis refuses everything that changes something.
    """
    with reaching_redis():
        state = client.info("persistence")
    if state.get("aof_enabled") and state.get("aof_last_write_status") == "err":
        raise JobStoreReadOnly("Redis cannot write its append-only file")
