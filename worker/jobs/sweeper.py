"""The sweeper: puts right what died half-way; a thread in every worker, one at a time by a lock; free of torch.

Each pass takes jobs from workers whose lease ran out, sends the wake-ups that are missing, and writes states that the
storage does not have yet. When Redis is not the server that it was (wiped, restarted with an older file), it first
restores every job that the storage knows better. Now and then it removes files that nobody points to.
"""

import logging
import secrets
import threading
import time
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
"""A finished traversal is a resource of its own; the job that made it is forgotten after this time."""

log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps over one job store. `run_once` is a pass; `start` makes a thread of passes."""

    def __init__(self, store: JobStore, *, every_seconds: float = SWEEP_SECONDS) -> None:
        self.store = store
        self._every = every_seconds
        self._token = secrets.token_hex(8)
        self._server: str | None = None
        self._cleaned = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begins to sweep in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and gives the lock back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def run_once(self) -> bool:
        """One pass; False when another sweeper has the lock. Raises JobStoreUnavailable."""
        if not self._lock():
            return False
        with reaching_redis():
            server = _server(self.store.redis)
        self._rebuild_if_needed(str(server["run_id"]))
        # Leases ran on while Redis was away: its holders get the time to renew them first.
        if float(server["uptime_in_seconds"]) >= self.store.lease_seconds:
            self._take_from_the_dead()
        sent = send_missing(self.store)
        if sent:
            log.info("sent %d missing wake-ups", sent)
        for job_id in self.store.unstored():
            self.store.store_state(job_id)
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
        """Takes the lock, or keeps it; it falls free when its holder misses a few passes."""
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

    def _take_from_the_dead(self) -> None:
        for job_id, old, new in self.store.expire_leases():
            log.warning("job %s: its worker gave no sign of life; %s → %s", job_id, old, new)
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
    info: dict[str, Any] = client.info("server")
    return info


def clean(store: JobStore) -> None:
    """Forgets finished traversal jobs that are old, and removes job folders that no job.json describes."""
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
            # Twice, as a job that is just being accepted writes its description first thing.
            if not store.storage.exists(f"{folder(job_id)}/job.json"):
                log.info("job %s: removing files that nobody points to", job_id)
                store.storage.delete(folder(job_id))
