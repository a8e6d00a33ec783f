"""Job records in Redis with a copy in the storage, from which they are restored. This module loads no torch."""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

from worker.jobs import files as job_files
from worker.jobs import scripts as job_scripts
from worker.jobs.connections import BLOCK_SECONDS, reaching_redis
from worker.jobs.deletions import Deletions
from worker.jobs.records import (
    HELD,
    KINDS,
    STATE_FIELDS,
    STATES,
    Event,
    Job,
    JobState,
    JobStoreReadOnly,
    UnknownJob,
    event_from_entry,
    event_position,
    job_from_hash,
    state_from_hash,
    valid_job_id,
)
from worker.stores.ids import id_of_name
from worker.stores.storage import Storage

P = job_scripts.PREFIX

log = logging.getLogger(__name__)


class DurableRecords:
    """Job records to read, store and restore. Every method raises JobStoreUnavailable when Redis is away."""

    def __init__(self, client: Any, storage: Storage, *, lease_seconds: float = 30.0) -> None:
        """Takes the places of the records.

        Args:
            client: A Redis client from `connect`.
            storage: Where jobs last.
            lease_seconds: Length of a lease, in seconds.
        """
        self.redis = client
        self.storage = storage
        self.lease_seconds = lease_seconds
        self.deletions = Deletions(client)
        self._scripts = {name: client.register_script(job_scripts.source(name)) for name in job_scripts.NAMES}

    # Reading

    def ping(self) -> None:
        """Returns when Redis answers."""
        self._redis("ping")

    def get(self, job_id: str) -> Job:
        """Returns the job's record.

        Raises:
            UnknownJob: There is no such job.
        """
        return job_from_hash(self._record(job_id))

    def many(self, job_ids: Sequence[str], *, restore: Collection[str] | None = None) -> list[Job | None]:
        """Returns several jobs in one call of Redis; None stands for one that does not exist.

        Args:
            job_ids: Ids of the jobs.
            restore: Ids that are looked up in the storage where Redis has none; None for all.
        """
        with reaching_redis():
            pipeline = self.redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.hgetall(f"{P}job:{job_id}")
            records = pipeline.execute()
        return [
            job_from_hash(record) if record else self._restored(job_id, restore)
            for job_id, record in zip(job_ids, records, strict=True)
        ]

    def states(self, job_ids: Sequence[str], *, restore: Collection[str] | None = None) -> list[JobState | None]:
        """Returns the states of several jobs, as `many` returns the jobs, without reading their whole records."""
        with reaching_redis():
            pipeline = self.redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.hmget(f"{P}job:{job_id}", STATE_FIELDS)
            found = pipeline.execute()
        records = [{name: value for name, value in zip(STATE_FIELDS, values, strict=True) if value} for values in found]
        return [
            state_from_hash(record) if record else self._restored(job_id, restore)
            for job_id, record in zip(job_ids, records, strict=True)
        ]

    def _restored(self, job_id: str, restore: Collection[str] | None) -> Job | None:
        """Returns a job that Redis does not have, if the storage has it and may be asked (`restore` of many)."""
        try:
            return self.get(job_id) if restore is None or job_id in restore else None
        except UnknownJob:
            return None

    def page(
        self, kind: str | None = None, status: str | None = None, limit: int = 50, after: str | None = None
    ) -> list[Job]:
        """Returns one page of the jobs, the newest first.

        Args:
            kind: Kind of the jobs; None for all.
            status: State of the jobs; None for all.
            limit: Largest number of jobs.
            after: Id of the last job of the page before; None for the first page.

        Raises:
            UnknownJob: `after` is not a job.
        """
        jobs: list[Job] = []
        position = None if after is None else (int(self._record(after)["created_at"]), after)
        for job_id, created_ms in self._newest_first(kind, status):
            if position is not None and (created_ms, job_id) >= position:
                continue
            record = self._redis("hgetall", f"{P}job:{job_id}")
            if record:
                jobs.append(job_from_hash(record))
            if len(jobs) == limit:
                break
        return jobs

    def find(self, kind: str, text: str) -> Job:
        """Returns the job of a kind that is given by its id or, where no other job has it, by its name.

        Raises:
            UnknownJob: There is no such job.
            AmbiguousName: Several jobs have the name.
        """
        try:
            job = self.get(text)
        except UnknownJob:
            ids = [job_id for job_id, _ in self._newest_first(kind, None)]
            with reaching_redis():
                pipeline = self.redis.pipeline(transaction=False)
                for job_id in ids:
                    pipeline.hget(f"{P}job:{job_id}", "name")
                names = pipeline.execute()
            found = id_of_name("jobs", text, zip(ids, names, strict=True))
            if found is None:
                raise
            job = self.get(found)
        if job.kind != kind:
            raise UnknownJob(text)
        return job

    def run_of(self, model_id: str) -> Job | None:
        """Returns the newest training that made a model and still has its record, or None."""
        for job_id, _ in self._newest_first("train", "succeeded"):
            if self._redis("hget", f"{P}job:{job_id}", "model") == model_id:
                return self.get(job_id)
        return None

    def counts(self) -> dict[str, int]:
        """Returns the number of jobs in each state."""
        with reaching_redis():
            pipeline = self.redis.pipeline(transaction=False)
            for status in STATES:
                pipeline.zcard(f"{P}status:{status}")
            return dict(zip(STATES, pipeline.execute(), strict=True))

    def wait_events(self, job_id: str, after: str | None = None, seconds: float = 5.0) -> list[Event]:
        """Returns events of the job's log, oldest first, and waits for one if there is none yet.

        Args:
            job_id: Id of the job.
            after: Id of the event after which to begin; None begins with the first.
            seconds: Longest wait, at most BLOCK_SECONDS; the client must be patient.

        Raises:
            UnknownJob: There is no such job.
        """
        self._record(job_id)
        milliseconds = max(1, int(min(seconds, BLOCK_SECONDS) * 1000))
        with reaching_redis(waits=True):
            found = self.redis.xread({f"{P}events:{job_id}": event_position(after)}, 1000, milliseconds)
        return [event_from_entry(entry) for _, entries in found or [] for entry in entries]

    def has_events(self, job_id: str, after: str) -> bool:
        """Returns whether a job's log has events after the one with the id `after`."""
        position = event_position(after)
        return bool(self._redis("xrange", f"{P}events:{job_id}", f"({position}", "+", 1))

    def unstored(self) -> list[str]:
        """Returns the ids of the jobs whose last transition the storage may not have."""
        return sorted(self._redis("smembers", f"{P}unstored"))

    # Storing and restoring

    def next_webhook(self, first_seconds: int, factor: int, longest_seconds: int) -> tuple[str, int] | None:
        """Takes the message that is due first (worker.jobs.webhooks); it comes back after a growing delay.

        Args:
            first_seconds: The delay after the first attempt.
            factor: The growth of the delay from attempt to attempt.
            longest_seconds: The longest delay.

        Returns:
            The id of the job and the number of the attempt, or None if none is due.
        """
        due = self._run("next_webhook", first_seconds, factor, longest_seconds)
        return None if due is None else (str(due[0]), int(due[1]))

    def announce(self, id: str, *, is_new: bool) -> None:
        """Lets the message of something other than a job be sent; the scripts do so for jobs.

        Args:
            id: Its id.
            is_new: Whether the message has not been tried yet; otherwise a delay that it waits for stays.
        """
        seconds, microseconds = self._redis("time")
        if is_new:
            self._redis("hdel", f"{P}webhook_attempts", id)
        self._redis("zadd", f"{P}webhooks", {id: 1000 * seconds + microseconds // 1000}, nx=not is_new)

    def end_webhook(self, job_id: str, version: int | None = None) -> None:
        """Notes that a message needs no further attempt.

        Args:
            job_id: Id of the job.
            version: The version of the record that the message reported; None where there was nothing to report.
        """
        if self._run("end_webhook", job_id, "" if version is None else version):
            self.store_state(job_id)

    def store_state(self, job_id: str) -> None:
        """Writes the job's last transition into the storage. If that fails, the sweeper tries again later."""
        for _ in range(5):
            record = self._redis("hgetall", f"{P}job:{job_id}")
            if not record:
                return
            try:
                if record["kind"] == "train" or record["status"] not in HELD:
                    job_files.write_state(self.storage, job_id, record)
            except OSError as error:
                log.warning("job %s: its state could not be stored (%s); trying again later", job_id, error)
                return
            if self._run("stored", job_id, record["version"]):
                return

    def store_hand_back(self, job_id: str, fence: int, progress: str | None) -> None:
        """Writes into the storage that a holder has handed a job back, for a Redis that is away.

        A Redis that starts again takes this over, unless it has a newer version of the job.

        Args:
            job_id: Id of the job.
            fence: The fence of the holder.
            progress: The job's progress, as JSON; None leaves the stored one.
        """
        try:
            job_files.write_hand_back(self.storage, job_id, fence, progress)
        except OSError as error:
            log.warning("job %s: it could not be handed back in the storage (%s)", job_id, error)

    def restore(self, job_id: str) -> bool:
        """Puts a record back from the storage if Redis has none, or an older one. Returns whether it did."""
        stored = job_files.read_job(self.storage, job_id)
        if stored is None:
            return False
        arguments = [stored.id, stored.kind, stored.created_ms, stored.status, stored.version, self._lease_ms]
        entry = f"{stored.id} {stored.request_digest}"
        done = self._run("restore", *arguments, stored.idempotency_key, entry, *as_arguments(stored.fields))
        if done:
            log.info("job %s: restored from the storage as %s", job_id, stored.status)
        return bool(done)

    def rebuild(self) -> int:
        """Restores each job of which the storage has a newer version than Redis.

        This runs at start, and whenever Redis was wiped or restarted.

        Returns:
            The number of jobs that were restored.
        """
        restored = 0
        for job_id in self.storage.list("jobs"):
            if not valid_job_id(job_id):
                continue
            version = self._redis("hget", f"{P}job:{job_id}", "version")
            if version is None or int(version) < job_files.stored_version(self.storage, job_id):
                restored += self.restore(job_id)
        with suppress(JobStoreReadOnly):  # It is noted once there is room.
            self._redis("set", f"{P}built", "1")
        return restored

    def is_built(self) -> bool:
        """Returns whether Redis was rebuilt since it was last wiped."""
        return bool(self._redis("exists", f"{P}built"))

    # Shared with the job store

    @property
    def _lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)

    def _record(self, job_id: str) -> dict[str, str]:
        """Returns the fields of a record, restored if Redis lost it; raises UnknownJob."""
        if not valid_job_id(job_id):
            raise UnknownJob(job_id)
        record: dict[str, str] = self._redis("hgetall", f"{P}job:{job_id}")
        if not record and self.restore(job_id):
            record = self._redis("hgetall", f"{P}job:{job_id}")
        if not record:
            raise UnknownJob(job_id)
        return record

    def _restore_if_lost(self, job_id: str) -> None:
        """Restores a job that Redis has lost. A refused commit of its holder is then tried once more.

        The commit is tried again even if Redis has the job: another thread may have restored it in between.
        """
        if not self._redis("exists", f"{P}job:{job_id}"):
            self.restore(job_id)

    def _newest_first(self, kind: str | None, status: str | None) -> Iterator[tuple[str, int]]:
        """Yields the id and the creation time, in ms, of each job of a kind in a state.

        Jobs that a wiped Redis has lost are restored first.
        """
        if not self.is_built():
            self.rebuild()
        found: list[tuple[str, int]] = []
        wanted = set(self._redis("zrange", f"{P}status:{status}", 0, -1)) if status else None
        for one in (kind,) if kind else KINDS:
            entries = self._redis("zrange", f"{P}kind:{one}", 0, -1, withscores=True)
            found += [(job_id, int(score)) for job_id, score in entries if wanted is None or job_id in wanted]
        yield from sorted(found, key=lambda pair: (pair[1], pair[0]), reverse=True)

    def _redis(self, method: str, *arguments: Any, **options: Any) -> Any:
        with reaching_redis():
            return getattr(self.redis, method)(*arguments, **options)

    def _run(self, script: str, *arguments: Any) -> Any:
        with reaching_redis():
            return self._scripts[script](args=arguments)


def as_arguments(fields: dict[str, str]) -> list[str]:
    """Returns record fields as a script takes them: names and values in turn."""
    return [text for pair in fields.items() for text in pair]
