"""GET /models/{id}/export: a model in the formats of this and other tools."""

import io
from pathlib import Path

import anyio

from app.api.model_calls import run_call
from app.dependencies import Services
from models.bundles import write_bundle
from models.info import ModelInfo
from worker.stores.models import card_of

EXPORTS = {"bundle": "application/zip", "onnx": "application/zip", "card": "text/markdown; charset=utf-8"}
"""Formats, with their media types."""
SUFFIXES = {"bundle": ".zip", "onnx": "-onnx.zip", "card": ".md"}


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
