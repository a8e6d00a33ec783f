"""Model calls in a render worker, in threads of their own, which share the cached models of the traversals."""

import logging
import threading
from typing import Any

import redis

from worker.jobs.connections import reaching_redis
from worker.jobs.queue import beat, heartbeat_key
from worker.jobs.records import CALLS, JobStoreUnavailable
from worker.model_calls import QUEUE, run_model_call
from worker.render_job import load_cached
from worker.runtime import Runtime

NUM_THREADS = 2
"""Calls that are answered at once, so that encode does not wait while a model is imported or exported."""
POLL_SECONDS = 1
"""Longest wait for a call before a thread looks whether the worker stops."""

log = logging.getLogger(__name__)


class CallConsumer:
    """Threads that consume the queue of calls, so that a call never waits for a traversal to end."""

    def __init__(self, services: Runtime) -> None:
        assert services.settings.redis_url is not None
        self._services = services
        # Answers stay bytes, since calls carry pixels.
        self._redis: Any = redis.Redis.from_url(
            services.settings.redis_url, protocol=2, socket_connect_timeout=2, socket_timeout=10
        )
        host, _, pid = services.name.rpartition("-")
        self._heartbeat = heartbeat_key(CALLS, host, int(pid))
        self._stop = threading.Event()
        self._away = False
        self._threads = [
            threading.Thread(target=self._run, name=f"calls {number}", daemon=True) for number in range(NUM_THREADS)
        ]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads once they have answered the calls that they have taken."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        try:
            with reaching_redis():
                self._redis.delete(self._heartbeat)
        except JobStoreUnavailable:
            log.debug("the heartbeat of the calls could not be removed; it expires")
        self._redis.close()

    def _run(self) -> None:
        while not (self._stop.is_set() or self._services.stopping.is_set()):
            try:
                with reaching_redis():
                    self._answer_next()
                self._away = False
            except JobStoreUnavailable as error:
                if not self._away:
                    log.warning("calls wait: %s", error)
                self._away = True
                self._stop.wait(POLL_SECONDS)
            except Exception:
                log.exception("a call failed")

    def _answer_next(self) -> None:
        """Waits for a call and answers it; an error is sent to the caller and then raised."""
        beat(self._redis, self._heartbeat)
        found = self._redis.blpop([QUEUE], timeout=POLL_SECONDS)
        if found is None:
            return
        settings, models = self._services.settings, self._services.models
        run_model_call(found[1].decode(), self._redis, lambda model: load_cached(models, model, settings), models)
