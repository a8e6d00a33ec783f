"""What is being deleted, so that no job is accepted that needs it. This module loads no torch.

A request notes the time (`now`) before it looks at what its job needs. A deletion says in Redis that it has begun
(`under_way`) before it looks for jobs that need what it deletes. The script that makes a job refuses one whose needs
are being deleted or were deleted since that time. Whichever is first, the other one is refused.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from worker.jobs.connections import reaching_redis
from worker.jobs.records import JobStoreReadOnly, JobStoreUnavailable
from worker.jobs.scripts import PREFIX as P

FIELDS = {"dataset": ("dataset",), "model": ("model", "from", "models"), "run": ("run",)}
"""The fields of a request by which a job needs something of each kind; a `run` is the job whose run goes on."""
WORDS = {"dataset": "data set", "model": "model", "run": "job"}
UNDER_WAY_SECONDS = 120
"""Time after which a deletion whose process died counts no longer."""
REMEMBERED_SECONDS = 600
"""Time for which a deletion is known; no request takes that long to be accepted."""


class NeedDeleted(RuntimeError):
    """Something that a job needs is deleted; `kind` is a key of FIELDS, and `id` its id."""

    verb = ""

    def __init__(self, kind: str, id: str) -> None:
        super().__init__(f"The {WORDS[kind]} {id} {self.verb} deleted.")
        self.kind, self.id = kind, id


class BeingDeleted(NeedDeleted):
    """Something is being deleted."""

    verb = "is being"


class JustDeleted(NeedDeleted):
    """Something was deleted while a request that needs it was being answered."""

    verb = "has just been"


def needs_of(request: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns kind and id of everything that the job of a request needs, or the members of a sweep.

    Args:
        request: The request of a job or of a sweep.
    """
    found = []
    for kind, names in FIELDS.items():
        for value in filter(None, map(request.get, names)):
            found += [(kind, id) for id in ([value] if isinstance(value, str) else value)]
    return found


class Deletions:
    """The deletions that are under way, or have just ended."""

    def __init__(self, client: Any) -> None:
        self._redis = client

    def now(self) -> int:
        """Returns the time of the Redis server, in milliseconds since 1970.

        Raises:
            JobStoreUnavailable: Redis is away.
        """
        with reaching_redis():
            seconds, microseconds = self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    @contextmanager
    def under_way(self, kind: str, id: str) -> Iterator[None]:
        """Lets no job be accepted that needs something while the block deletes it.

        On a full disk the block runs without that, since Redis then accepts no job either, and the deletion makes room.

        Args:
            kind: A key of FIELDS.
            id: Its id.

        Raises:
            BeingDeleted: Another request deletes it.
            JobStoreUnavailable: Redis is away.
        """
        mark = f"{P}deleting:{kind}:{id}"
        with suppress(JobStoreReadOnly), reaching_redis():
            if not self._redis.set(mark, "1", nx=True, ex=UNDER_WAY_SECONDS):
                raise BeingDeleted(kind, id)
        try:
            yield
            with suppress(JobStoreUnavailable):
                now = self.now()
                with reaching_redis():
                    self._redis.set(f"{P}gone:{kind}:{id}", now, ex=REMEMBERED_SECONDS)
        finally:
            with suppress(JobStoreUnavailable), reaching_redis():
                self._redis.delete(mark)

    def check(self, needs: Sequence[tuple[str, str]], since: int) -> None:
        """Checks that nothing of this is being deleted or was deleted since a time.

        Args:
            needs: Kind and id of each.
            since: The time, from `now`.

        Raises:
            BeingDeleted: One of them is being deleted.
            JustDeleted: One of them was deleted.
            JobStoreUnavailable: Redis is away.
        """
        for kind, id in needs:
            with reaching_redis():
                is_going, gone = self._redis.mget(f"{P}deleting:{kind}:{id}", f"{P}gone:{kind}:{id}")
            if is_going:
                raise BeingDeleted(kind, id)
            if gone and int(gone) >= since:
                raise JustDeleted(kind, id)
