"""Calls of a model: a render worker computes the answer, for which the event loop waits.

The export of a model is here too, since ONNX needs a worker.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from numpy.typing import NDArray

from app import problems
from app.dependencies import Services
from app.problems import Problem
from models.bundles import write_bundle
from models.config import NetworkConfig
from models.info import ModelInfo
from worker.jobs.connections import reaching_redis
from worker.model_calls import (
    MAX_PIXEL_VALUES,
    CallAnswer,
    answer_key,
    read_answer,
    submit_call,
    submit_comparison,
    submit_import,
)
from worker.stores.deadlines import passed
from worker.stores.models import card_of

EXPORTS = {"bundle": "application/zip", "onnx": "application/zip", "card": "text/markdown; charset=utf-8"}
"""Formats, with their media types."""
SUFFIXES = {"bundle": ".zip", "onnx": "-onnx.zip", "card": ".md"}


def check_latents(rows: list[list[float]], network: NetworkConfig) -> list[list[float]]:
    """Checks latent vectors against a model.

    Args:
        rows: The vectors.
        network: The model's network, with D latent dimensions.

    Returns:
        The vectors, (N, D).

    Raises:
        Problem: There are too many, or one has another length; it names z.
    """
    most = max(1, MAX_PIXEL_VALUES // (network.image_size**2 * network.num_channels))
    if len(rows) > most:
        raise problems.invalid("z", f"may hold at most {most} vectors for this model, not {len(rows)}")
    if any(len(row) != network.latent_dim for row in rows):
        raise problems.invalid("z", f"must hold vectors of {network.latent_dim} numbers for this model")
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
    """Returns the answer of a render worker.

    Args:
        services: The services.
        kind: The call: encode, reconstruct, decode or onnx.
        model: Id of the model.
        seconds: The longest time to wait.
        pixels: The image, (H, W, C).
        latents: The latent vectors, (N, D).

    Raises:
        Problem: No worker answered (workers_busy), or the worker's own failure.
    """
    return await _answered(
        services, seconds, lambda: submit_call(services.jobs.redis, kind, model, pixels=pixels, latents=latents)
    )


async def run_import(services: Services, seconds: float, **upload: Any) -> CallAnswer:
    """Returns the answer of a render worker to the import of a model.

    Args:
        services: The services.
        seconds: The longest time to wait.
        **upload: The arguments of submit_import.
    """
    return await _answered(services, seconds, lambda: submit_import(services.jobs.redis, **upload))


async def run_comparison(
    services: Services, models: Sequence[str], seconds: float, pictures: Sequence[NDArray[np.uint8]] = ()
) -> CallAnswer:
    """Returns the answer of a render worker to the comparison of two models.

    Args:
        services: The services.
        models: Ids of the two models.
        seconds: The longest time to wait.
        pictures: The picture as the input of each model, (H, W, C), or none.
    """
    return await _answered(services, seconds, lambda: submit_comparison(services.jobs.redis, models, pictures))


async def _answered(services: Services, seconds: float, put: Callable[[], str]) -> CallAnswer:
    """Returns the answer to a call, which `put` stores for a worker."""
    try:
        services.callers.acquire_nowait()
    except anyio.WouldBlock:
        raise Problem("workers_busy", "Too many requests are waiting.") from None
    try:

        def submit() -> str:
            with reaching_redis():
                return put()

        async with services.calling():
            call_id = await anyio.to_thread.run_sync(submit)
            with reaching_redis(waits=True):
                found = await _pop(services, answer_key(call_id), seconds)
    finally:
        services.callers.release()
    if found is None:
        passed("call")
        raise Problem("workers_busy", f"No render worker answered within {seconds:g} s.")
    answer = read_answer(found)
    if answer.error is not None:
        code, message = answer.error
        raise Problem(code if code in problems.KINDS else "request_failed", message)
    return answer


async def _pop(services: Services, key: str, seconds: float) -> bytes | None:
    """Returns the first entry of a list, or None if there is none within so many seconds."""
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


async def export_bytes(services: Services, model_id: str, format: str, seconds: float) -> bytes:
    """Returns a model in one of EXPORTS.

    Args:
        services: The services.
        model_id: Id of the model.
        format: The format.
        seconds: The longest time to wait for a worker, which `onnx` needs.

    Raises:
        UnknownModel: There is no such model.
        Problem: No worker answers in time.
    """
    info, folder = await anyio.to_thread.run_sync(services.models.get, model_id)
    if format == "onnx":
        return (await run_call(services, "onnx", model_id, seconds)).data
    if format == "card":
        return card_of(info).encode()
    return await anyio.to_thread.run_sync(_bundle, info, folder)


def _bundle(info: ModelInfo, folder: Path) -> bytes:
    buffer = io.BytesIO()
    write_bundle(folder, buffer, card=card_of(info))
    return buffer.getvalue()
