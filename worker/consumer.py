"""Celery's consumer with faster reconnection, fewer log lines and a heartbeat from its own event loop."""

import logging
import time
import warnings
from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer as CeleryConsumer
from redis.exceptions import RedisError, ResponseError

from worker.jobs.queue import beat, heartbeat_key
from worker.jobs.records import JobStoreUnavailable
from worker.runtime import Runtime

BEAT_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 2.0

log = logging.getLogger(__name__)


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """A consumer that retries a lost broker every two seconds (Celery waits up to 30), and logs the loss once.

    A broker whose disk is full refuses to hand out messages (MISCONF). It counts as lost; Celery would end the worker.
    """

    connection: Any
    connection_errors: tuple[type[Exception], ...]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.connection_errors = (*self.connection_errors, ResponseError)
        self._refused = False

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        if not isinstance(exc, ResponseError):
            super().on_connection_error_after_connected(exc)
            return
        if not self._refused:
            log.warning("the queue refuses to hand out messages: %s; trying again", exc)
        self._refused = True
        connection, self.connection = self.connection, None
        with suppress(Exception):
            connection.close()
        time.sleep(LONGEST_RETRY_SECONDS)

    def ensure_connected(self, conn: Any) -> Any:
        # Celery re-enables this warning at start-up and repeats it on every lost connection.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        logged = False

        def on_error(error: Exception, _interval: float) -> None:
            nonlocal logged
            if not logged:
                log.warning("the queue cannot be reached: %s; trying again", error)
            logged = True

        connection = conn.ensure_connection(
            on_error,
            self.app.conf.broker_connection_max_retries,
            interval_start=0.2,
            interval_step=0.2,
            interval_max=LONGEST_RETRY_SECONDS,
            callback=self._end_when_stopping,
        )
        self.first_connection_attempt = False
        return connection

    @staticmethod
    def _end_when_stopping() -> None:
        """Raises Celery's exception for a shutdown if the worker is stopping."""
        from celery.worker.state import maybe_shutdown

        maybe_shutdown()


def heartbeat_step(queue: str, services: Runtime, device: str) -> Any:
    """Makes a part of the consumer that records, from the consumer's own event loop, that it consumes.

    Args:
        queue: The queue of the worker.
        services: The runtime of the worker.
        device: The worker's device, which is recorded too.
    """
    host, _, pid = services.name.rpartition("-")
    key = heartbeat_key(queue, host, int(pid))
    redis = services.jobs.redis

    class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = ("celery.worker.consumer.tasks:Tasks",)
        timer: Any = None
        announced = False

        def start(self, consumer: Any) -> None:
            log.info("worker %s %s: %s", queue, services.name, "consuming again" if Heartbeat.announced else "ready")
            Heartbeat.announced = True
            self.timer = consumer.timer.call_repeatedly(BEAT_SECONDS, self.beat)
            self.beat()

        def stop(self, consumer: Any) -> None:
            if self.timer is not None:
                self.timer.cancel()
            try:
                redis.delete(key)
            except RedisError:
                log.debug("the heartbeat could not be removed; it expires")

        def beat(self) -> None:
            try:
                beat(redis, key, device=device)
            except JobStoreUnavailable:
                log.debug("no heartbeat: Redis does not answer")

    return Heartbeat
