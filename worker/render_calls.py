"""Model calls in a render worker: they share the warm models of the traversals."""

import functools
from typing import Any

import redis

from worker.jobs.connections import reaching_redis
from worker.model_calls import run_model_call
from worker.render_job import load_cached
from worker.runtime import Runtime


def answer_call(services: Runtime, call_id: str) -> None:
    """Answers a model call if somebody waits for it. Raises what went wrong, once the caller was told."""
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
    """A client whose answers stay bytes: calls carry pixels."""
    return redis.Redis.from_url(url, protocol=2, socket_connect_timeout=2, socket_timeout=10)
