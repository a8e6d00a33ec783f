"""What /metrics says of the whole service: of its queues, its workers and its disk, looked up when it is asked for."""

from app.observability.monitoring import Monitoring
from worker.jobs.counters import counted
from worker.jobs.queue import queue_ages, workers_alive
from worker.jobs.store import JobStore, JobStoreUnavailable
from worker.stores.room import Room

MAX_RUNNING = 1000
"""Running trainings whose speeds are added up."""


def look(monitoring: Monitoring, jobs: JobStore, room: Room) -> None:
    """Updates the numbers of the whole service; those of Redis are missing while it does not answer.

    Args:
        monitoring: The metrics.
        jobs: The job store.
        room: The room on the disks.
    """
    monitoring.disk_free.set(room.free_bytes())
    try:
        _look_at_redis(monitoring, jobs)
    except JobStoreUnavailable:
        for gauge in (monitoring.workers, monitoring.jobs, monitoring.queue_age, monitoring.images_per_second):
            gauge.clear()
        monitoring.counters.amounts = {}
        monitoring.redis_up.set(0)


def _look_at_redis(monitoring: Monitoring, jobs: JobStore) -> None:
    for queue, num in workers_alive(jobs.redis).items():
        monitoring.workers.labels(queue).set(num)
    for status, num in jobs.counts().items():
        monitoring.jobs.labels(status).set(num)
    for queue, seconds in queue_ages(jobs.redis).items():
        monitoring.queue_age.labels(queue).set(seconds)
    running = jobs.page("train", "running", MAX_RUNNING)
    speeds = [job.progress.get("images_per_second") or 0.0 for job in running]
    monitoring.images_per_second.labels("train").set(sum(speeds))
    monitoring.counters.amounts = counted(jobs.redis)
    monitoring.redis_up.set(1)
