"""The sweeper, which repairs what a dead worker or a wiped Redis left behind. This module loads no torch.

Every worker runs it in a thread; a lock lets one sweep at a time. Each pass takes jobs from workers whose lease ran
out, sends the wake-ups that are missing, and writes the states that the storage does not have yet. When the disk is
full, it removes the oldest unnamed traversals. If Redis was wiped or restarted, the pass first restores each job of
which the storage has a newer version. Every ten minutes it removes files that no job refers to.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from worker.jobs.connections import reaching_redis
from worker.jobs.files import folder
from worker.jobs.queue import send_missing
from worker.jobs.records import FINISHED, JobStoreUnavailable, TransitionRefused, UnknownJob, valid_job_id
from worker.jobs.scripts import PREFIX
from worker.jobs.store import JobStore

LOCK = f"{PREFIX}sweeper"
SWEEP_SECONDS = 3.0
CLEAN_SECONDS = 600.0
KEPT_TRAVERSAL_JOB_SECONDS = 3600.0
"""Time after which the job of a finished traversal is removed; the traversal itself stays."""

log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps one job store. `run_once` makes one pass; `start` makes passes in a thread."""

    def __init__(
        self, store: JobStore, *, every_seconds: float = SWEEP_SECONDS, also: Callable[[], None] | None = None
    ) -> None:
        """Takes what to sweep.

        Args:
            store: The jobs.
            every_seconds: Time between two passes.
            also: Called in each pass, after missing records have been restored.
        """
        self.store = store
        self._also = also
        self._every = every_seconds
        self._token = secrets.token_hex(8)
        self._server: str | None = None
        self._cleaned = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Starts the thread that sweeps."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and releases the lock."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def run_once(self) -> bool:
        """Makes one pass.

        Returns:
            False if another sweeper has the lock.

        Raises:
            JobStoreUnavailable: Redis is away.
        """
        if not self._lock():
            return False
        with reaching_redis():
            server = _server(self.store.redis)
        self._rebuild_if_needed(str(server["run_id"]))
        # Leases ran on while Redis was away, so their holders first get the time to renew them.
        if float(server["uptime_in_seconds"]) >= self.store.lease_seconds:
            self._take_from_lost_workers()
        sent = send_missing(self.store)
        if sent:
            log.info("sent %d missing wake-ups", sent)
        for job_id in self.store.unstored():
            self.store.store_state(job_id)
        if self._also is not None:
            self._also()
        self.store.storage.keep_room()
        if time.monotonic() - self._cleaned > CLEAN_SECONDS or not self._cleaned:
            self._cleaned = time.monotonic()
            clean(self.store)
        return True

    def _run(self) -> None:
        away = False
        while not self._stop.is_set():
            try:
                self.run_once()
                away = False
            except JobStoreUnavailable as error:
                if not away:
                    log.warning("the sweeper waits: %s", error)
                away = True
            except Exception:
                log.exception("the sweeper failed; trying again")
            self._stop.wait(self._every)
        self._unlock()

    def _lock(self) -> bool:
        """Takes or keeps the lock, which expires when its holder misses a few passes.

        Returns:
            True if this sweeper has the lock.
        """
        milliseconds = int(max(self._every * 4, 2.0) * 1000)
        with reaching_redis():
            if self.store.redis.set(LOCK, self._token, nx=True, px=milliseconds):
                return True
            if self.store.redis.get(LOCK) != self._token:
                return False
            self.store.redis.pexpire(LOCK, milliseconds)
            return True

    def _unlock(self) -> None:
        try:
            with reaching_redis():
                if self.store.redis.get(LOCK) == self._token:
                    self.store.redis.delete(LOCK)
        except JobStoreUnavailable:
            pass

    def _take_from_lost_workers(self) -> None:
        for job_id, old, new in self.store.expire_leases():
            log.warning("job %s: its worker did not renew the lease; %s → %s", job_id, old, new)
            if new == "queued":
                self.store.send(self.store.get(job_id))

    def _rebuild_if_needed(self, server: str) -> None:
        if server == self._server and self.store.is_built():
            return
        restored = self.store.rebuild()
        if restored:
            log.info("restored %d jobs from the storage", restored)
        self._server = server


def _server(client: Any) -> dict[str, Any]:
    """Returns what Redis says about its server process."""
    info: dict[str, Any] = client.info("server")
    return info


def clean(store: JobStore) -> None:
    """Removes old finished traversal jobs, and job folders without a job.json."""
    with reaching_redis():
        seconds, _ = store.redis.time()
    for status in FINISHED:
        latest = (seconds - KEPT_TRAVERSAL_JOB_SECONDS) * 1000
        with reaching_redis():
            old = store.redis.zrangebyscore(f"{PREFIX}status:{status}", "-inf", latest)
        for job_id in old:
            try:
                if store.get(job_id).kind == "traversal":
                    store.delete(job_id)
            except (UnknownJob, TransitionRefused):
                continue
    for job_id in store.storage.list("jobs"):
        if store.storage.exists(f"{folder(job_id)}/job.json") or not valid_job_id(job_id):
            continue
        try:
            store.get(job_id)
        except UnknownJob:
            # A job that is being accepted may have written its description since the first check.
            if not store.storage.exists(f"{folder(job_id)}/job.json"):
                log.info("job %s: removing files without a job.json", job_id)
                store.storage.delete(folder(job_id))
