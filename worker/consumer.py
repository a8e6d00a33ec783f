"""Celery's consumer as this service wants it: quick to come back, quiet, and with a heartbeat that means something."""

import logging
import warnings
from typing import Any

from celery import bootsteps
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer as CeleryConsumer
from redis.exceptions import RedisError

from worker.jobs.queue import beat, heartbeat_key
from worker.jobs.records import JobStoreUnavailable
from worker.runtime import Runtime

BEAT_SECONDS = 4.0
LONGEST_RETRY_SECONDS = 2.0

log = logging.getLogger(__name__)


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Tries again every two seconds at most while the broker is away (Celery: up to 30), and says so once."""

    def ensure_connected(self, conn: Any) -> Any:
        # Celery switched it on when it began; it tells, at every lost connection, of a setting that is set.
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        said = False

        def on_error(error: Exception, _interval: float) -> None:
            nonlocal said
            if not said:
                log.warning("the queue cannot be reached: %s; trying again", error)
            said = True

        connection = conn.ensure_connection(
            on_error,
            self.app.conf.broker_connection_max_retries,
            interval_start=0.2,
            interval_step=0.2,
            interval_max=LONGEST_RETRY_SECONDS,
            callback=self._end_when_told,
        )
        self.first_connection_attempt = False
        return connection

    @staticmethod
    def _end_when_told() -> None:
        from celery.worker.state import maybe_shutdown

        maybe_shutdown()


def heartbeat_step(queue: str, services: Runtime, device: str) -> Any:
    """A part of the consumer that says, from the consumer's own event loop, that it consumes."""
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
