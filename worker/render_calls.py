"""Model calls in a render worker, which share the cached models of the traversals."""

import functools
from typing import Any

import redis

from worker.jobs.connections import reaching_redis
from worker.model_calls import run_model_call
from worker.render_job import load_cached
from worker.runtime import Runtime


def answer_call(services: Runtime, call_id: str) -> None:
    """Answers a model call unless it has expired. An error is sent to the caller and then raised."""
    assert services.settings.redis_url is not None
    with reaching_redis():
        run_model_call(
            call_id,
            _bytes_client(services.settings.redis_url),
            lambda model_id: load_cached(services.models, model_id, services.settings),
            services.models,
        )


@functools.cache
def _bytes_client(url: str) -> Any:
    """Returns a client whose answers stay bytes, since calls carry pixels."""
    return redis.Redis.from_url(url, protocol=2, socket_connect_timeout=2, socket_timeout=10)
