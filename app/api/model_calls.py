"""Calls of a model: sent to a render worker, whose answer the event loop waits for."""

from collections.abc import Callable
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray

from app import problems
from app.dependencies import Services
from app.problems import Problem
from models.config import NetworkConfig
from worker.jobs.connections import reaching_redis
from worker.model_calls import MAX_PIXEL_VALUES, CallAnswer, answer_key, read_answer, submit_call, submit_import

MAX_LATENT = 1000.0


def check_latents(z: Any, network: NetworkConfig) -> list[list[float]]:
    """(N, D) numbers out of `z`: one vector or several. Raises Problem that names z."""
    rows = z if isinstance(z, list) and z and isinstance(z[0], list) else [z]
    most = max(1, MAX_PIXEL_VALUES // (network.image_size**2 * network.num_channels))
    if len(rows) > most:
        raise problems.invalid("z", f"may hold at most {most} vectors for this model, not {len(rows)}")
    latent_dim = network.latent_dim
    for row in rows:
        if not isinstance(row, list) or len(row) != latent_dim:
            raise problems.invalid("z", f"must hold vectors of {latent_dim} numbers for this model")
        for value in row:
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_LATENT:
                raise problems.invalid("z", f"must hold numbers between -{MAX_LATENT:g} and {MAX_LATENT:g}")
    return [[float(value) for value in row] for row in rows]


async def run_call(
    services: Services,
    kind: str,
    model: str,
    seconds: float,
    *,
    pixels: NDArray[np.uint8] | None = None,
    latents: Any = None,
) -> CallAnswer:
    """The answer of a render worker. Raises Problem: workers_busy, or what the worker says."""
    return await _answered(
        services, seconds, lambda: submit_call(services.jobs.redis, kind, model, pixels=pixels, latents=latents)
    )


async def run_import(services: Services, seconds: float, **upload: Any) -> CallAnswer:
    """As run_call, for the import of a model. Args: upload, as submit_import takes it."""
    return await _answered(services, seconds, lambda: submit_import(services.jobs.redis, **upload))


async def _answered(services: Services, seconds: float, put: Callable[[], str]) -> CallAnswer:
    """The answer to a call that `put` puts where a worker finds it."""
    try:
        services.waiters.acquire_nowait()
    except anyio.WouldBlock:
        raise Problem("workers_busy", "Too many requests are waiting.") from None
    try:

        def submit() -> str:
            call_id = put()
            services.send_call(call_id)
            return call_id

        with reaching_redis():
            call_id = await anyio.to_thread.run_sync(submit)
            found = await _pop(services, answer_key(call_id), seconds)
    finally:
        services.waiters.release()
    if found is None:
        raise Problem("workers_busy", f"No render worker answered within {seconds:g} s.")
    answer = read_answer(found)
    if answer.error is not None:
        code, message = answer.error
        raise Problem(code if code in problems.KINDS else "request_failed", message)
    return answer


async def _pop(services: Services, key: str, seconds: float) -> bytes | None:
    """What is pushed to a list within so many seconds."""
    client = services.connect_async(raw=True)
    try:
        with anyio.move_on_after(seconds):
            while True:
                found = await client.blpop([key], timeout=5)
                if found is not None:
                    return bytes(found[1])
        return None
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()
