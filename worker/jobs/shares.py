"""What each client has in flight, counted in Redis, so that all API processes count together.

Nothing has to be returned when a process dies: a job counts while its record is unfinished, a sweep while it has not
ended, and a call for as long as it may wait. A Redis that was wiped begins at zero. This module loads no torch.
"""

from typing import Any

from worker.jobs.connections import reaching_redis
from worker.jobs.records import JobStoreUnavailable
from worker.jobs.scripts import PREFIX, source

JOB_SECONDS = 10.0
"""Time for which a job or a sweep counts before it has a record."""
WORDS = {
    "train": "unfinished trainings",
    "traversal": "unfinished traversals",
    "dataset": "unfinished packings",
    "evaluation": "unfinished evaluations",
    "sweep": "unfinished sweeps",
    "call": "calls of models in flight",
}
"""Each kind of work in words."""


class TooManyInFlight(RuntimeError):
    """The client has too much work of one kind in flight; the text says how much."""


class Shares:
    """Bounds the work that each client has in flight."""

    def __init__(self, client: Any) -> None:
        self._redis = client
        self._script = client.register_script(source("share"))

    def take(self, client: str, kind: str, id: str, *, most: int, seconds: float = JOB_SECONDS) -> None:
        """Counts a piece of work from now on; one that counts already does not count twice.

        Args:
            client: The client.
            kind: A key of WORDS.
            id: Id of the job, of the sweep, or of the call.
            most: The most that the client may have in flight.
            seconds: Time for which the work counts if no unfinished job or sweep has the id.

        Raises:
            TooManyInFlight: The client has that much in flight.
            JobStoreUnavailable: Redis is away.
        """
        with reaching_redis():
            taken = self._script(args=[f"{kind}:{client}", most, id, int(1000 * seconds)])
        if not taken:
            raise TooManyInFlight(f"This client has {most} {WORDS[kind]} already")

    def leave(self, client: str, kind: str, id: str) -> None:
        """Counts a piece of work no longer; while Redis is away, its time has to end."""
        try:
            with reaching_redis():
                self._redis.zrem(f"{PREFIX}client:{kind}:{client}", id)
        except JobStoreUnavailable:
            pass
