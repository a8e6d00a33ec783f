"""Counters of all processes, which /metrics shows: a hash in Redis. This module loads no torch."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from worker.jobs.connections import reaching_redis
from worker.jobs.records import JobStoreUnavailable
from worker.jobs.scripts import PREFIX

COUNTERS = f"{PREFIX}counters"
LEASE_EXPIRIES = "lease_expiries"
FENCE_REFUSALS = "fence_refusals"
PACKING_DEADLINES = "packing_deadlines"
RENDER_SECONDS = "render_seconds:"
RENDERS = "renders:"
"""Each of these two comes before the name of a stage."""


def count(client: Any, amounts: Mapping[str, float]) -> None:
    """Adds to counters; nothing happens while Redis is away.

    Args:
        client: A Redis client.
        amounts: What is added to each counter, by name.
    """
    with suppress(JobStoreUnavailable), reaching_redis():
        pipeline = client.pipeline(transaction=False)
        for name, amount in amounts.items():
            pipeline.hincrbyfloat(COUNTERS, name, amount)
        pipeline.execute()


def counted(client: Any) -> dict[str, float]:
    """Returns every counter by name; one that nothing was added to is missing."""
    with reaching_redis():
        return {name: float(amount) for name, amount in client.hgetall(COUNTERS).items()}
