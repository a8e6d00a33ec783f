"""Deletion of what jobs and sweeps need, which is refused while one needs it. This module loads no torch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from worker.jobs.deletions import needs_of
from worker.jobs.store import FINISHED, STATES, Job, JobStore
from worker.sweeps.store import SweepStore


class InUse(RuntimeError):
    """A job or a sweep needs what is to be deleted; the text names it."""


@contextmanager
def deletion(sweeps: SweepStore, kind: str, ids: Sequence[str], *, spared: str | None = None) -> Iterator[None]:
    """Lets the block delete things that no job needs; meanwhile, no job that needs one is accepted.

    Args:
        sweeps: The sweeps and their jobs.
        kind: A key of worker.jobs.deletions.FIELDS.
        ids: Their ids.
        spared: The kind of jobs that may need them, since the block ends them; None for no kind.

    Raises:
        InUse: A job or a sweep needs one.
        BeingDeleted: Another process deletes one.
        JobStoreUnavailable: Redis is away.
    """
    needs = {(kind, id) for id in ids}
    _refuse_when_used(sweeps, needs, spared)
    with ExitStack() as stack:
        for id in ids:
            stack.enter_context(sweeps.jobs.deletions.under_way(kind, id))
        _refuse_when_used(sweeps, needs, spared)
        yield


def unfinished_users(jobs: JobStore, needs: set[tuple[str, str]]) -> Iterator[Job]:
    """Yields the unfinished jobs that need something.

    Args:
        jobs: The jobs.
        needs: Kinds (keys of worker.jobs.deletions.FIELDS) and ids of what they may need.
    """
    for status in STATES:
        if status not in FINISHED:
            page = jobs.page(None, status, limit=10_000)
            yield from (job for job in page if needs.intersection(needs_of(job.request)))


def in_use(job: Job) -> InUse:
    """Returns the refusal to delete what a job needs."""
    return InUse(f"Job {job.id} is {job.status} and needs it.")


def _refuse_when_used(sweeps: SweepStore, needs: set[tuple[str, str]], spared: str | None) -> None:
    for job in unfinished_users(sweeps.jobs, needs):
        if job.kind != spared:
            raise in_use(job)
    for sweep in sweeps.unfinished():  # Its members that wait have no jobs.
        if needs.intersection(needs_of(sweep.request)):
            raise InUse(f"The sweep {sweep.id} has not ended and needs it.")
