"""The queues: Celery's settings, the sending of wake-ups, and the workers that consume.

This module loads no torch.
"""

import functools
import json
import logging
import time
from typing import Any

from celery import Celery

from worker.jobs.connections import IMPATIENT, connect, reaching_redis
from worker.jobs.records import CALLS, QUEUE_OF_KIND, QUEUES, Job
from worker.jobs.scripts import PREFIX
from worker.jobs.store import JobStore
from worker.stores.processes import is_gone, process_mark
from worker.stores.settings import Settings, load_settings
from worker.stores.storage import Storage

QUEUE_PREFIX = f"{PREFIX}celery:"
RUN_JOB = "betavae.run_job"
WORKERS = f"{PREFIX}workers:"
BEAT_EXPIRY_SECONDS = 10
"""Time after which the heartbeat of a worker on another machine expires."""

log = logging.getLogger(__name__)


def make_celery(settings: Settings) -> Celery:
    """Makes the Celery application for the Redis of the settings.

    Raises:
        SettingsError: There is no redis_url.
    """
    app = Celery("betavae", broker=settings.broker_url, include=["worker.tasks"])
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_serializer="json",
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # A message is a wake-up that is acknowledged before the work begins; the record is the truth. A late
        # acknowledgement would start every training again after the visibility timeout.
        task_acks_late=False,
        task_default_queue="render",
        task_create_missing_queues=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=4,
        broker_transport_options={
            "global_keyprefix": QUEUE_PREFIX,
            "visibility_timeout": 3600,
            "socket_keepalive": True,
            "socket_timeout": 30,
            "socket_connect_timeout": 4,
            "health_check_interval": 10,
        },
    )
    return app


@functools.cache
def _app() -> Celery:
    return make_celery(load_settings())


def __getattr__(name: str) -> Any:
    # `celery -A worker.jobs.queue` finds the application here, while importing this module needs no settings.
    if name in ("celery_app", "app", "celery"):
        return _app()
    raise AttributeError(name)


class Sender:
    """Puts wake-ups on the queues."""

    def __init__(self, settings: Settings) -> None:
        self._app = make_celery(settings)
        # The HTTP client waits during this time, so the wait for a silent broker is short.
        self._app.conf.broker_transport_options = {**self._app.conf.broker_transport_options, **IMPATIENT}

    def __call__(self, job: Job) -> None:
        """Sends the wake-up of a job."""
        self._app.send_task(
            RUN_JOB,
            [job.id],
            queue=job.queue,
            headers={"job_id": job.id, "request_id": job.request_id or ""},
            ignore_result=True,
            retry=False,
            expires=None,
        )


def open_job_store(settings: Settings, storage: Storage, *, patient: bool = True) -> JobStore:
    """Opens the job store of the settings, without sending anything to Redis yet.

    Args:
        settings: The settings, with a redis_url.
        storage: Where jobs last.
        patient: See `connect`.

    Raises:
        SettingsError: There is no redis_url.
    """
    sender = Sender(settings)
    client = connect(settings.redis_url or "", patient=patient)
    return JobStore(client, storage, send=sender, lease_seconds=settings.lease_seconds)


def waiting_ids(client: Any, queue: str) -> set[str]:
    """Returns the ids of the jobs whose message is on a queue, or was fetched by a worker that has not begun."""
    with reaching_redis():
        messages = list(client.lrange(QUEUE_PREFIX + queue, 0, -1))
        messages += [json.dumps(json.loads(entry)[0]) for entry in client.hvals(f"{QUEUE_PREFIX}unacked")]
    found = set()
    for message in messages:
        try:
            found.add(str(json.loads(message)["headers"]["job_id"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def send_missing(store: JobStore, *, older_than_seconds: float = 2.0) -> int:
    """Sends a wake-up for each queued job that has none.

    Args:
        store: The jobs.
        older_than_seconds: Shortest time that a job has been queued for.

    Returns:
        The number of wake-ups that were sent.
    """
    with reaching_redis():
        seconds, microseconds = store.redis.time()
        latest = (seconds + microseconds / 1e6 - older_than_seconds) * 1000
        queued = store.redis.zrangebyscore(f"{PREFIX}status:queued", "-inf", latest)
    if not queued:
        return 0
    known = set().union(*(waiting_ids(store.redis, queue) for queue in QUEUES))
    sent = 0
    for job_id in queued:
        if job_id not in known:
            store.send(store.get(job_id))
            sent += 1
    return sent


def queue_ages(client: Any) -> dict[str, float]:
    """Returns the seconds since the oldest queued job of each queue was queued, and 0 for an empty queue."""
    with reaching_redis():
        seconds, microseconds = client.time()
        queued = client.zrange(f"{PREFIX}status:queued", 0, -1, withscores=True)
        pipeline = client.pipeline(transaction=False)
        for job_id, _ in queued:
            pipeline.hget(f"{PREFIX}job:{job_id}", "kind")
        kinds = pipeline.execute()
    ages = dict.fromkeys(QUEUES, 0.0)
    for (_, since_ms), kind in zip(queued, kinds, strict=True):
        if kind is not None:  # It was not deleted in between.
            queue = QUEUE_OF_KIND[kind]
            ages[queue] = max(ages[queue], seconds + microseconds / 1e6 - since_ms / 1000)
    return ages


def workers_alive(client: Any) -> dict[str, int]:
    """Returns the number of workers that consume each queue.

    A worker that died on another machine counts until its heartbeat expires; one on this machine does not.
    """
    alive = dict.fromkeys((*QUEUES, CALLS), 0)
    with reaching_redis():
        keys = [str(key) for key in client.scan_iter(f"{WORKERS}*", count=200)]
        beats = client.mget(keys) if keys else []
    for key, heartbeat in zip(keys, beats, strict=True):
        queue = key[len(WORKERS) :].split(":")[0]
        if queue in alive and heartbeat is not None and not is_gone(json.loads(heartbeat).get("process")):
            alive[queue] += 1
    return alive


def heartbeat_key(queue: str, host: str, pid: int) -> str:
    """Returns the key of a worker's heartbeat."""
    return f"{WORKERS}{queue}:{host}-{pid}"


def beat(client: Any, key: str, *, seconds: int = BEAT_EXPIRY_SECONDS, **facts: Any) -> None:
    """Records that a worker consumes.

    Args:
        client: A Redis client.
        key: The key from `heartbeat_key`.
        seconds: Time after which the heartbeat expires.
        **facts: What else is recorded with it.
    """
    with reaching_redis():
        client.set(key, json.dumps({"at": time.time(), "process": process_mark(), **facts}), ex=seconds)
