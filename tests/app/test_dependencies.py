"""The limits on waiting requests and streams; without a free place, a request is answered at once."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from app.api.waiting import event_stream, wait_until_finished
from app.clients import Places
from app.dependencies import Services, open_services
from app.problems import Problem
from worker.jobs.events import follow_events
from worker.jobs.records import Event, Job
from worker.stores.settings import Settings

JOB = Job(id="j-1", kind="train", status="queued", request={})


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Services with one place of each kind, whose Redis must not be used."""
    opened = open_services(Settings(home=tmp_path, redis_url="unix:///nowhere/r.sock"))
    return replace(opened, waiters=anyio.CapacityLimiter(1), streams=Places(1, 1))


def test_a_request_that_finds_no_place_to_wait_gets_the_job_as_it_is(services: Services) -> None:
    async def ask() -> Job:
        services.waiters.acquire_on_behalf_of_nowait("another request")
        return await wait_until_finished(services, JOB, 60)

    assert anyio.run(ask) is JOB


def test_one_event_stream_too_many_is_refused(services: Services) -> None:
    def follow(client: Any) -> AsyncIterator[Event | None]:
        return follow_events(client, services.jobs, JOB.id)

    async def ask() -> list[str]:
        event_stream(services, follow)
        with pytest.raises(Problem) as refused:
            event_stream(services, follow)
        return [refused.value.code]

    assert anyio.run(ask) == ["too_many_jobs"]


def test_an_empty_redis_url_stands_for_the_embedded_server(tmp_path: Path) -> None:
    services = open_services(Settings(home=tmp_path, redis_url=None))
    assert services.redis_url == services.settings.redis_url == f"unix://{tmp_path}/redis/broker.sock?db=0"
