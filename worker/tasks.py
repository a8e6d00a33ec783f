"""The Celery tasks. A message only wakes a worker up; the job's record decides. Torch is loaded when a job needs it."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from celery import shared_task
from celery.signals import task_postrun, task_prerun, worker_shutting_down

from worker.jobs.claims import Claim, ClaimKeeper
from worker.jobs.queue import RUN_JOB
from worker.jobs.records import JobStoreUnavailable, StaleClaim, TransitionRefused, UnknownJob
from worker.runtime import Runtime, runtime
from worker.stores.logs import JOB_ID, REQUEST_ID

log = logging.getLogger(__name__)


@worker_shutting_down.connect
def _begin_to_stop(**_: object) -> None:
    log.info("stopping: running jobs write a checkpoint and are requeued")
    runtime().stopping.set()


@task_prerun.connect
def _name_in_logs(task: Any = None, **_: object) -> None:
    """Lets the log lines of a task name its request and its job; a thread runs one task after another."""
    headers = task.request.headers or {}
    REQUEST_ID.set(str(headers.get("request_id") or ""))
    JOB_ID.set(str(headers.get("job_id") or ""))


@task_postrun.connect
def _name_no_more(**_: object) -> None:
    REQUEST_ID.set("")
    JOB_ID.set("")


@shared_task(name=RUN_JOB, ignore_result=True)
def run_job(job_id: str) -> None:
    """Works on a job if it is queued; a wake-up that came twice or late has no effect."""
    work_on(runtime(), job_id)


def work_on(services: Runtime, job_id: str) -> None:
    """Claims a job and works on it until the claim is ended or lost."""
    if services.stopping.is_set():
        return  # The sweeper sends the wake-up again, for another worker.
    try:
        is_packing = services.jobs.get(job_id).kind == "dataset"
        # Only one data set is packed at a time. Another job stays queued, and the sweeper sends its wake-up again.
        if is_packing and not services.packing.acquire(blocking=False):
            return
        try:
            claim = services.jobs.claim(job_id, services.name)
            if claim is not None and may_begin(services, claim):
                work_on_claim(services, claim)
            if claim is not None:
                advance_sweep(services, claim)
        finally:
            if is_packing:
                services.packing.release()
    except UnknownJob:
        return
    except JobStoreUnavailable as error:
        log.warning("job %s: not started: %s", job_id, error)


def may_begin(services: Runtime, claim: Claim) -> bool:
    """Returns whether to work on a claimed job; the member of a sweep that is held is paused instead."""
    if services.sweeps.may_begin(claim.job):
        return True
    with suppress(TransitionRefused):  # It is being cancelled.
        services.jobs.pause(claim.id)
    with suppress(StaleClaim):
        claim.paused()
    return False


def advance_sweep(services: Runtime, claim: Claim) -> None:
    """Lets a sweep go on when a job of it has ended; the sweeper does so later where this fails."""
    sweep = claim.job.request.get("sweep")
    if sweep is None:
        return
    try:
        services.sweeps.advance(sweep["id"])
    except (JobStoreUnavailable, OSError) as error:
        log.warning("sweep %s: it goes on later: %s", sweep["id"], error)


def work_on_claim(services: Runtime, claim: Claim) -> None:
    """Runs the function of the job's kind while the claim is renewed. An unexpected error fails the job."""
    try:
        with ClaimKeeper(claim) as keeper:
            try:
                _function(claim.job.kind)(services, claim, keeper)
            except (StaleClaim, JobStoreUnavailable):
                raise
            except Exception as error:
                _fail(claim, error)
    except StaleClaim:
        log.warning("job %s: another worker holds it; nothing more was committed", claim.id)
    except JobStoreUnavailable as error:
        log.warning("job %s: no other worker takes it until its lease ends: %s", claim.id, error)


def _fail(claim: Claim, error: Exception) -> None:
    """Fails a job after an unexpected error."""
    from training.device import is_out_of_memory

    if is_out_of_memory(error):
        log.error("job %s: out of memory: %s", claim.id, error)
        hint = " for this batch_size" if claim.job.kind == "train" else ""
        claim.fail("out_of_memory", f"The device has too little memory{hint}: {error}"[:500])
        return
    log.exception("job %s: failed by an unexpected error", claim.id)
    claim.fail("internal_error", f"The worker failed: {type(error).__name__}: {error}"[:500])


def _function(kind: str) -> Callable[[Runtime, Claim, ClaimKeeper], None]:
    """Returns the function that works on jobs of a kind, imported only now."""
    if kind == "train":
        from worker.train_job import run_train_job

        return run_train_job
    if kind == "dataset":
        from worker.dataset_job import run_dataset_job

        return run_dataset_job
    if kind == "evaluation":
        from worker.evaluation_job import run_evaluation_job

        return run_evaluation_job
    if kind == "comparison":
        from worker.sweep_job import run_comparison_job

        return run_comparison_job
    return _run_traversal


def _run_traversal(services: Runtime, claim: Claim, keeper: ClaimKeeper) -> None:
    from worker.render_job import run_traversal_job

    run_traversal_job(claim, services.storage, services.models, services.settings)
