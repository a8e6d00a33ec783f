"""Calls that a client waits for: encode, decode and reconstruct, and a model's import and export to ONNX.

A call is not a job: nothing of it lasts. Its request waits in Redis for a minute, a list there, the queue of calls,
carries its id, and a render worker answers on another list that the caller blocks on. This module loads torch only when
a call runs.
"""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from worker.jobs.records import CALLS
from worker.jobs.scripts import PREFIX as KEY_PREFIX
from worker.stores.logs import REQUEST_ID
from worker.stores.models import UnknownModel
from worker.stores.room import is_full

if TYPE_CHECKING:
    from redis import Redis
    from torch import Tensor

    from models.files import LoadedModel
    from worker.stores.models import ModelRegistry

KEPT_SECONDS = 60
"""Time that a request waits for a worker, and an answer for its caller."""
MAX_PIXEL_VALUES = 2**20
"""Largest N·H·W·C of one decode, which takes 4 MiB of float32 and a fraction of a second."""

PREFIX = f"{KEY_PREFIX}call:"
QUEUE = f"{KEY_PREFIX}{CALLS}"
"""The list of the ids of calls that wait for a worker."""


@dataclass(frozen=True)
class CallAnswer:
    """The answer to a call. `images` are pixel means in [0, 1], float32 (N, H, W, C), or None."""

    values: dict[str, Any]
    images: NDArray[np.float32] | None
    error: tuple[str, str] | None = None
    """The code and the message of a call that failed."""
    data: bytes = b""
    """The file that the call made; empty for other calls."""


def submit_call(
    redis: "Redis", kind: str, model: str, *, pixels: NDArray[np.uint8] | None = None, latents: Any = None
) -> str:
    """Puts a call on the queue.

    Args:
        redis: A Redis client.
        kind: encode, decode, reconstruct or onnx.
        model: Id of the model.
        pixels: The preprocessed picture, uint8 (H, W, C), for encode and reconstruct.
        latents: Numbers (N, D) for decode.

    Returns:
        The id of the call.
    """
    head = {"kind": kind, "model": model, "latents": latents, "shape": None if pixels is None else pixels.shape}
    return _submit(redis, head, b"" if pixels is None else np.ascontiguousarray(pixels).tobytes())


def submit_import(
    redis: "Redis",
    file: bytes,
    *,
    spec: bytes | None = None,
    name: str = "",
    format: str = "auto",
    id: str | None = None,
) -> str:
    """Puts a call on the queue that imports a model's file; the answer's values hold the `id` of the new model.

    Args:
        redis: A Redis client.
        file: The content of the file.
        spec: The description beside it, if the format has one.
        name: Name of the model; empty takes the file's own.
        format: Format of the file, or auto.
        id: Id of the new model; None makes one of its name.

    Returns:
        The id of the call.
    """
    num_spec = None if spec is None else len(spec)
    head = {"kind": "import", "name": name, "format": format, "spec_bytes": num_spec, "id": id}
    return _submit(redis, head, (spec or b"") + file)


def submit_comparison(redis: "Redis", models: Sequence[str], pictures: Sequence[NDArray[np.uint8]] = ()) -> str:
    """Puts a call on the queue that compares two models; with pictures, the answer's data is the sheet as PNG.

    Args:
        redis: A Redis client.
        models: Ids of the two models.
        pictures: The picture as the input of each model, uint8 (H, W, C); none compares the models alone.

    Returns:
        The id of the call.
    """
    head = {"kind": "compare", "models": list(models), "shapes": [picture.shape for picture in pictures]}
    body = b"".join(np.ascontiguousarray(picture).tobytes() for picture in pictures)
    return _submit(redis, head, body)


def _submit(redis: "Redis", head: dict[str, Any], body: bytes) -> str:
    request = json.dumps({**head, "request_id": REQUEST_ID.get()}).encode() + b"\n" + body
    call_id = secrets.token_hex(16)
    with redis.pipeline() as pipeline:
        pipeline.set(PREFIX + call_id, request, ex=KEPT_SECONDS)
        pipeline.rpush(QUEUE, call_id)
        pipeline.expire(QUEUE, KEPT_SECONDS)  # All of its calls have expired by then.
        pipeline.execute()
    return call_id


def answer_key(call_id: str) -> str:
    """Returns the key of the list that the answer is pushed to and on which the caller blocks."""
    return f"{PREFIX}{call_id}:answer"


def read_answer(data: bytes) -> CallAnswer:
    """Decodes an answer that was popped from the list."""
    head, rest = _unpack(data)
    error = tuple(head["error"]) if head["error"] else None
    if head["shape"] is None:
        return CallAnswer(head["values"], None, error, rest)
    return CallAnswer(head["values"], np.frombuffer(rest, np.float32).reshape(head["shape"]), error)


_OVERFLOW = CallAnswer(
    {}, None, ("model_overflow", "The model's numbers overflow for this input: its weights are too large.")
)


def run_model_call(
    call_id: str, redis: "Redis", load: "Callable[[str], LoadedModel]", registry: "ModelRegistry"
) -> bool:
    """Answers a call in a worker.

    Args:
        call_id: Id of the call.
        redis: A Redis client that does not decode answers.
        load: Loads the model of an id; raises UnknownModel for an unknown one.
        registry: The registry of imported models.

    Returns:
        False if the call has expired.
    """
    data = redis.getdel(PREFIX + call_id)
    if data is None:
        return False
    assert isinstance(data, bytes)
    head, rest = _unpack(data)
    REQUEST_ID.set(head["request_id"])
    try:
        if head["kind"] in ("import", "onnx"):
            answer = _transfer(head, rest, registry)
        elif head["kind"] == "compare":
            answer = _compare(head, rest, [load(model) for model in head["models"]])
        else:
            answer = _compute(head, rest, load(head["model"]))
    except UnknownModel as error:
        answer = CallAnswer({}, None, ("unknown_model", str(error)))
    except Exception as error:
        _reply(redis, call_id, CallAnswer({}, None, ("request_failed", f"The worker failed: {type(error).__name__}")))
        raise
    _reply(redis, call_id, answer)
    return True


def _reply(redis: "Redis", call_id: str, answer: CallAnswer) -> None:
    shape = None if answer.images is None else answer.images.shape
    body = answer.data if answer.images is None else np.ascontiguousarray(answer.images).tobytes()
    head = {"values": answer.values, "error": answer.error, "shape": shape}
    with redis.pipeline() as pipeline:
        pipeline.rpush(answer_key(call_id), json.dumps(head).encode() + b"\n" + body)
        pipeline.expire(answer_key(call_id), KEPT_SECONDS)
        pipeline.execute()


def _transfer(head: dict[str, Any], rest: bytes, registry: "ModelRegistry") -> CallAnswer:
    """Imports or exports a model."""
    from models.bundles import ImportRefused
    from models.config import ConfigError
    from worker.model_transfer import onnx_zip, take_in

    if head["kind"] == "onnx":
        return CallAnswer({}, None, data=onnx_zip(registry, head["model"]))
    num_spec = head["spec_bytes"] or 0
    spec = None if head["spec_bytes"] is None else rest[:num_spec]
    try:
        options = {name: head[name] for name in ("name", "format")}
        model_id = take_in(registry, rest[num_spec:], spec=spec, id=head.get("id"), **options)
    except ImportRefused as error:
        code = "upload_too_large" if error.code == "too_large" else "invalid_model"
        return CallAnswer({"reason": error.code}, None, (code, f"{error.message} ({error.code})"))
    except ConfigError as error:
        return CallAnswer({}, None, ("invalid_request", str(error)))
    except OSError as error:
        if not is_full(error):
            raise
        return CallAnswer({}, None, ("storage_full", str(error)))
    return CallAnswer({"id": model_id}, None)


def _compute(head: dict[str, Any], rest: bytes, model: "LoadedModel") -> CallAnswer:
    """Encodes, decodes or reconstructs."""
    import torch

    network = model.network
    with torch.inference_mode():
        if head["kind"] == "decode":
            device = next(network.parameters()).device
            latents = torch.tensor(head["latents"], dtype=torch.float32, device=device)
            images = network.decode(latents)
            return CallAnswer({}, _to_rows(images)) if bool(images.isfinite().all()) else _OVERFLOW
        try:
            values, logits = encoded(model, np.frombuffer(rest, np.uint8).reshape(head["shape"]))
        except OverflowError:
            return _OVERFLOW
        reconstructed = _to_rows(torch.sigmoid(logits)) if head["kind"] == "reconstruct" else None
        return CallAnswer(values, reconstructed)


def encoded(model: "LoadedModel", pixels: NDArray[np.uint8]) -> "tuple[dict[str, Any], Tensor]":
    """Returns the posterior of a picture with its KL and loss, and the logits (1, C, H, W) of its reconstruction.

    Args:
        model: The model.
        pixels: The preprocessed picture, uint8 (H, W, C).

    Raises:
        OverflowError: The weights are so large that a result is not finite.
    """
    import torch

    from models.pixels import to_input
    from training.objectives.losses import (
        reconstruction_error,
        reconstruction_loss,
        with_optimal_variance,
    )

    network = model.network
    with torch.inference_mode():
        image = to_input(pixels[None], next(network.parameters()).device)
        posterior, likelihood = network.posterior(image), model.info.likelihood
        mean, log_variance, kls = posterior.mean, posterior.log_variance, posterior.kl().mean(0)
        logits = network.decoder(mean)
        loss = with_optimal_variance(reconstruction_loss(logits, image, likelihood), likelihood, pixels.size)
        if not all(bool(tensor.isfinite().all()) for tensor in (mean, log_variance, logits, kls, loss)):
            raise OverflowError("a result is not finite")
        kl = kls.tolist()
        error = reconstruction_error(logits, image, likelihood).item()
        unfamiliar, reason = model.info.unfamiliarity(error, sum(kl))
        values = {
            "mean": mean[0].tolist(),
            "log_variance": log_variance[0].tolist(),
            "kl_per_dimension": kl,
            "reconstruction_loss": loss.item(),
            "reconstruction_error": error,
            "unfamiliar": unfamiliar,
            "unfamiliar_reason": reason,
        }
    return values, logits


def _compare(head: dict[str, Any], rest: bytes, models: "list[LoadedModel]") -> CallAnswer:
    """Compares two models, with a picture through both if there is one."""
    from worker.comparison import compare, picture_through_both

    comparison = compare(models)
    if not head["shapes"]:
        return CallAnswer(comparison, None)
    pictures, begin = [], 0
    for shape in head["shapes"]:
        end = begin + int(np.prod(shape))
        pictures.append(np.frombuffer(rest[begin:end], np.uint8).reshape(shape))
        begin = end
    try:
        numbers = [encoded(model, picture)[0] for model, picture in zip(models, pictures, strict=True)]
    except OverflowError:
        return _OVERFLOW
    sheet = picture_through_both(models, pictures, numbers, comparison)
    return CallAnswer({**comparison, "pictures": numbers}, None, data=sheet)


def _to_rows(images: Any) -> NDArray[np.float32]:
    """Copies images (N, C, H, W) from any device to an array (N, H, W, C)."""
    rows: NDArray[np.float32] = np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy(), dtype=np.float32)
    return rows


def _unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, rest = data.partition(b"\n")
    return json.loads(head), rest
