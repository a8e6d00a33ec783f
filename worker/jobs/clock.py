"""A limit on the time that a request may wait for Redis, and a breaker for a Redis that is silent.

A server that was frozen accepts connections and answers nothing. Without a breaker, every request would wait for its
own timeout, in the threads that other requests need. This module loads no torch.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.jobs.records import JobStoreUnavailable

REQUEST_SECONDS = 2.0
"""Longest time that one request waits for Redis, all its calls together."""
MAX_CALLS = 40
"""Calls that may wait for Redis at once, which is below the number of the server's threads."""
PATIENCE_SECONDS = 0.25
"""Longest wait of a further call, which a Redis that answers ends within milliseconds."""


class Breaker:
    """Refuses calls while Redis is silent, except for one at a time, which tries whether Redis answers again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_CALLS)
        self._silent = self._trying = False

    @contextmanager
    def call(self) -> Iterator[None]:
        """Makes one call.

        Raises:
            JobStoreUnavailable: Redis is silent, or too many calls wait for it.
        """
        if not self._places.acquire(timeout=PATIENCE_SECONDS):
            raise JobStoreUnavailable("too many calls wait for Redis")
        try:
            with self._watched():
                yield
        finally:
            self._places.release()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        tries, silent = self._enter(), False
        try:
            yield
        except RedisTimeoutError:
            silent = True
            raise
        finally:
            self._leave(silent, tries)

    def _enter(self) -> bool:
        """Returns whether this call tries if Redis answers again."""
        with self._lock:
            if not self._silent:
                return False
            if self._trying:
                raise JobStoreUnavailable("Redis is silent")
            self._trying = True
            return True

    def _leave(self, silent: bool, tries: bool) -> None:
        with self._lock:
            self._silent = silent
            if tries:
                self._trying = False


class Clock:
    """The time that one request may still wait for Redis."""

    def __init__(self, breaker: Breaker, seconds: float = REQUEST_SECONDS) -> None:
        self._breaker, self._seconds = breaker, seconds
        self._spent = 0.0

    def restart(self) -> None:
        """Gives the request its whole time again."""
        self._spent = 0.0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Makes one call, whose time counts.

        Raises:
            JobStoreUnavailable: The time is over, or the breaker refuses the call.
        """
        if self._spent >= self._seconds:
            raise JobStoreUnavailable("Redis is too slow")
        began = time.monotonic()
        try:
            with self._breaker.call():
                yield
        finally:
            self._spent += time.monotonic() - began


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


@contextmanager
def on_clock(breaker: Breaker) -> Iterator[None]:
    """Gives the calls of a block, also those in threads that it starts with its context, one clock."""
    token = _clock.set(Clock(breaker))
    try:
        yield
    finally:
        _clock.reset(token)


def current_clock() -> Clock | None:
    """Returns the clock of this context; None in a process that serves no requests."""
    return _clock.get()


def restart_clock() -> None:
    """Gives this context its whole time again, for a request that waits for a job, or streams its events."""
    if (clock := _clock.get()) is not None:
        clock.restart()
