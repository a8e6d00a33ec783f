"""Calls that a client waits for: encode, decode and reconstruct of a model, its import and its export to ONNX.

A call is no job: nothing of it lasts. Its request waits in Redis for a minute, a message on the render queue carries
its id, a render worker answers on a Redis list that the caller blocks on. Free of torch until a call runs.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from redis import Redis

    from models.files import LoadedModel
    from worker.stores.models import ModelRegistry

KEPT_SECONDS = 60
"""How long a request waits for a worker, and an answer for its caller."""
MAX_PIXEL_VALUES = 2**20
"""N·H·W·C of one decode: 4 MiB of float32, a fraction of a second of work."""

PREFIX = "betavae:call:"


@dataclass(frozen=True)
class CallAnswer:
    """What a call came to. `images` are pixel means in [0, 1], float32 (N, H, W, C), where the call makes any."""

    values: dict[str, Any]
    images: NDArray[np.float32] | None
    error: tuple[str, str] | None = None
    """(code, message) of a call that failed."""
    data: bytes = b""
    """A file, of a call that makes one."""


def submit_call(
    redis: "Redis", kind: str, model: str, *, pixels: NDArray[np.uint8] | None = None, latents: Any = None
) -> str:
    """Puts a call where a worker finds it; the caller sends the message.

    Args: redis, a client that does not decode answers; pixels, the preprocessed picture (H, W, C); latents,
    (N, D) numbers.   Returns: the call's id.
    """
    call_id = secrets.token_hex(16)
    head = {"kind": kind, "model": model, "latents": latents, "shape": None if pixels is None else pixels.shape}
    redis.set(PREFIX + call_id, _pack(head, pixels), ex=KEPT_SECONDS)
    return call_id


def submit_import(
    redis: "Redis", file: bytes, *, spec: bytes | None = None, name: str = "", format: str = "auto"
) -> str:
    """As submit_call, for the import of a model's file; the answer's values hold the `id` that it got."""
    call_id = secrets.token_hex(16)
    head = {"kind": "import", "name": name, "format": format, "spec_bytes": None if spec is None else len(spec)}
    redis.set(PREFIX + call_id, json.dumps(head).encode() + b"\n" + (spec or b"") + file, ex=KEPT_SECONDS)
    return call_id


def answer_key(call_id: str) -> str:
    """The list that the answer is pushed to; block on it."""
    return f"{PREFIX}{call_id}:answer"


def read_answer(data: bytes) -> CallAnswer:
    """The answer out of what was popped from the list."""
    head, rest = _unpack(data)
    error = tuple(head["error"]) if head["error"] else None
    if head["shape"] is None:
        return CallAnswer(head["values"], None, error, rest)
    return CallAnswer(head["values"], np.frombuffer(rest, np.float32).reshape(head["shape"]), error)


def run_model_call(
    call_id: str, redis: "Redis", load: "Callable[[str], LoadedModel]", registry: "ModelRegistry"
) -> bool:
    """Answers a call in a worker; False where nobody waits for it any more.

    Args: redis, a client that does not decode answers; load, model id → model, raises KeyError for an unknown one;
    registry, that imported models go into.
    """
    data = redis.getdel(PREFIX + call_id)
    if data is None:
        return False
    assert isinstance(data, bytes)
    head, rest = _unpack(data)
    try:
        if head["kind"] in ("import", "onnx"):
            answer = _transfer(head, rest, registry)
        else:
            answer = _compute(head, rest, load(head["model"]))
    except KeyError:
        answer = CallAnswer({}, None, ("unknown_model", f"There is no model with the id {head['model']}."))
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
    from models.bundles import ImportRefused
    from models.config import ConfigError
    from worker.model_transfer import onnx_zip, take_in

    if head["kind"] == "onnx":
        return CallAnswer({}, None, data=onnx_zip(registry, head["model"]))
    num_spec = head["spec_bytes"] or 0
    spec = None if head["spec_bytes"] is None else rest[:num_spec]
    try:
        model_id = take_in(registry, rest[num_spec:], spec=spec, name=head["name"], format=head["format"])
    except ImportRefused as error:
        code = "upload_too_large" if error.code == "too_large" else "invalid_model"
        return CallAnswer({"reason": error.code}, None, (code, f"{error.message} ({error.code})"))
    except ConfigError as error:
        return CallAnswer({}, None, ("invalid_request", str(error)))
    return CallAnswer({"id": model_id}, None)


def _compute(head: dict[str, Any], rest: bytes, model: "LoadedModel") -> CallAnswer:
    import torch

    from models.pixels import to_input
    from training.objectives.losses import kl_per_dimension, reconstruction_loss

    network = model.network
    device = next(network.parameters()).device
    with torch.inference_mode():
        if head["kind"] == "decode":
            latents = torch.tensor(head["latents"], dtype=torch.float32, device=device)
            return CallAnswer({}, _to_rows(network.decode(latents)))
        pixels = np.frombuffer(rest, np.uint8).reshape(head["shape"])
        image = to_input(pixels[None], device)
        mean, log_variance = network.encode(image)
        logits = network.decoder(mean)
        values = {
            "mean": mean[0].tolist(),
            "log_variance": log_variance[0].tolist(),
            "kl_per_dimension": kl_per_dimension(mean, log_variance).tolist(),
            "reconstruction_loss": reconstruction_loss(logits, image, model.info.likelihood).item(),
        }
        images = _to_rows(torch.sigmoid(logits)) if head["kind"] == "reconstruct" else None
        return CallAnswer(values, images)


def _to_rows(images: Any) -> NDArray[np.float32]:
    """(N, C, H, W) on any device → (N, H, W, C) in memory."""
    rows: NDArray[np.float32] = np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy(), dtype=np.float32)
    return rows


def _pack(head: dict[str, Any], array: NDArray[Any] | None) -> bytes:
    body = b"" if array is None else np.ascontiguousarray(array).tobytes()
    return json.dumps(head).encode() + b"\n" + body


def _unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, rest = data.partition(b"\n")
    return json.loads(head), rest
