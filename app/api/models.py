"""/models: the registry, its default, export, and calls of a model."""

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from app import problems
from app.api.bodies import media_type, read_form, read_json
from app.api.datasets import refuse_when_used
from app.api.media import read_upload, to_png
from app.api.model_calls import check_latents, run_call
from app.api.model_exports import EXPORTS, SUFFIXES, export_bytes
from app.api.negotiation import accepted, bytes_response, wait_seconds
from app.dependencies import Services, Services_
from app.problems import Problem
from app.schemas import Decoded, Encoded, Model, ModelList
from models.config import ConfigError
from training.data.images import Preprocessing
from worker.stores.models import ModelRecord

router = APIRouter(tags=["models"])

MAX_LABEL_LENGTH = 60
LINKS = ("export", "encode", "decode", "reconstruct", "evaluations")
CALL_PROBLEMS = (
    "bad_request", "unknown_model", "not_acceptable", "upload_too_large", "unsupported_media_type", "invalid_request",
    "job_store_unavailable", "workers_busy", "request_failed",
)  # fmt: skip
IMAGE_PROBLEMS = (*CALL_PROBLEMS, "image_too_large", "unsupported_image", "not_an_image")
_IMAGE_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "additionalProperties": False,
                    "properties": {"image": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}
_PNG_OR_JSON: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "A picture, or the numbers, by Accept."}
}


def _json_body(properties: dict[str, Any], required: list[str], example: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "additionalProperties": False, "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def describe(record: ModelRecord, default: str | None, request: Request) -> dict[str, Any]:
    """A model as the API shows it."""
    info = record.info
    url = f"{request.scope.get('root_path', '')}/models/{record.id}"
    return {
        "id": record.id,
        **asdict(info),
        "default": record.id == default,
        "shipped": record.shipped,
        "active_dimensions": info.active_dimensions,
        "links": {"self": url, **{name: f"{url}/{name}" for name in LINKS}},
    }


@router.get("/models", response_model=ModelList, summary="All models", responses=problems.responses())
def list_models(request: Request, services: Services_) -> Response:
    """Those that ship, then those of the storage, the newest first; and the id of the default."""
    default = services.models.default_id()
    models = [describe(record, default, request) for record in services.models.list()]
    return JSONResponse({"models": models, "default": default})


@router.get(
    "/models/default",
    response_model=Model,
    summary="The default model",
    responses=problems.responses("unknown_model"),
)
def get_default_model(request: Request, services: Services_) -> Response:
    """The one that is used when a request names none."""
    default = services.default_model()
    return JSONResponse(describe(services.models.record(default), default, request))


@router.put(
    "/models/default",
    response_model=Model,
    summary="Choose the default model",
    openapi_extra=_json_body({"id": {"type": "string"}}, ["id"], {"id": "dsprites"}),
    responses=problems.responses("unknown_model", "unsupported_media_type", "upload_too_large", "invalid_request"),
)
async def set_default_model(request: Request, services: Services_) -> Response:
    """From now on it is used when a request names none."""
    body = await read_json(request)
    model_id = _only_field(body, "id")

    def put() -> dict[str, Any]:
        services.models.set_default(model_id)
        return describe(services.models.record(model_id), model_id, request)

    return JSONResponse(await anyio.to_thread.run_sync(put))


def _only_field(body: dict[str, Any], name: str) -> str:
    for key in body:
        if key != name:
            raise problems.invalid(key[:100], f"is no field of this request; it has {name}")
    if not isinstance(body.get(name), str):
        raise problems.invalid(name, "must be a text")
    return str(body[name])


@router.get(
    "/models/{model_id}", response_model=Model, summary="A model", responses=problems.responses("unknown_model")
)
def get_model(model_id: str, request: Request, services: Services_) -> Response:
    """Architecture, preprocessing, data set, settings, KL per dimension in nats, licence."""
    return JSONResponse(describe(services.models.record(model_id), services.models.default_id(), request))


@router.patch(
    "/models/{model_id}",
    response_model=Model,
    summary="Rename a model, or its dimensions",
    openapi_extra=_json_body(
        {
            "name": {"type": "string"},
            "dimension_labels": {"type": "array", "items": {"type": "string", "maxLength": MAX_LABEL_LENGTH}},
        },
        [],
        {"name": "faces 2", "dimension_labels": ["smile", "", "hair", "", "", "", "", "", "", ""]},
    ),
    responses=problems.responses(
        "unknown_model", "read_only", "unsupported_media_type", "upload_too_large", "invalid_request"
    ),
)
async def update_model(model_id: str, request: Request, services: Services_) -> Response:
    """Labels are one text a dimension, empty where there is none. The id stays."""
    body = await read_json(request)

    def put() -> dict[str, Any]:
        _update(services, model_id, body)
        return describe(services.models.record(model_id), services.models.default_id(), request)

    return JSONResponse(await anyio.to_thread.run_sync(put))


def _update(services: Services, model_id: str, body: dict[str, Any]) -> None:
    record = services.models.record(model_id)
    for key in body:
        if key not in ("name", "dimension_labels"):
            raise problems.invalid(key[:100], "is no field of this request; it has name and dimension_labels")
    labels = body.get("dimension_labels", record.info.dimension_labels)
    latent_dim = record.info.network.latent_dim
    if "dimension_labels" in body:
        well_formed = isinstance(labels, list) and all(
            isinstance(label, str) and len(label) <= MAX_LABEL_LENGTH and label.isprintable() for label in labels
        )
        if not well_formed or len(labels) not in (0, latent_dim):
            message = f"must be {latent_dim} texts of at most {MAX_LABEL_LENGTH} printable characters"
            raise problems.invalid("dimension_labels", message)
    if "name" in body and not isinstance(body["name"], str):
        raise problems.invalid("name", "must be a text")
    if "dimension_labels" in body:
        services.models.update(model_id, replace(record.info, dimension_labels=labels))
    if "name" in body:
        services.models.rename(model_id, body["name"])


@router.delete(
    "/models/{model_id}",
    status_code=204,
    summary="Delete a model",
    responses=problems.responses("unknown_model", "in_use", "read_only", "job_store_unavailable"),
)
def delete_model(model_id: str, services: Services_) -> None:
    """Refused (409) for a model that ships, for the default, and while a job needs it."""
    record = services.models.record(model_id)
    if not record.shipped and services.models.default_id() == model_id:
        raise Problem("in_use", "It is the default model; choose another one first (PUT /models/default).")
    refuse_when_used(services, "model", model_id)
    refuse_when_used(services, "from", model_id)
    services.models.delete(model_id)


@router.get(
    "/models/{model_id}/export",
    summary="Export a model",
    response_class=Response,
    responses={
        200: {
            "description": "A zip with model.safetensors, model.json and the model card (`bundle`, what an import "
            "takes); a zip with encoder.onnx, decoder.onnx and the card (`onnx`); or the card alone (`card`).",
            "content": {"application/zip": {}, "text/markdown": {}},
        },
        304: {"description": "The caller has it already (If-None-Match)."},
        **problems.responses(
            "unknown_model", "invalid_request", "request_failed", "job_store_unavailable", "workers_busy"
        ),
    },
)
async def export_model(
    model_id: str,
    request: Request,
    services: Services_,
    format: Annotated[Literal["bundle", "onnx", "card"], Query(description="What to make of it.")] = "bundle",
) -> Response:
    """Safetensors and a description in JSON, ONNX graphs of encoder and decoder, or a model card; no pickle."""
    data = await export_bytes(services, model_id, format, _wait(request))
    filename = model_id + SUFFIXES[format]
    return bytes_response(request, data, EXPORTS[format], filename=filename, immutable=False)


@router.post(
    "/models/{model_id}/encode",
    response_model=Encoded,
    summary="The posterior of an image",
    openapi_extra=_IMAGE_FORM,
    responses=problems.responses(*IMAGE_PROBLEMS),
)
async def encode(model_id: str, request: Request, services: Services_) -> Response:
    """Mean and log-variance of q(z given x), its KL from the prior per dimension and the reconstruction loss, nats."""
    accepted(request.headers.get("accept"), ["application/json"])
    pixels = await _read_image(request, services, model_id)
    answer = await run_call(services, "encode", model_id, _wait(request), pixels=pixels)
    return JSONResponse(answer.values)


@router.post(
    "/models/{model_id}/reconstruct",
    summary="An image through the model",
    response_class=Response,
    openapi_extra=_IMAGE_FORM,
    responses={**_PNG_OR_JSON, **problems.responses(*IMAGE_PROBLEMS)},
)
async def reconstruct(model_id: str, request: Request, services: Services_) -> Response:
    """The decoded posterior mean, as PNG, or by `Accept` as JSON with the numbers of encode."""
    kind = accepted(request.headers.get("accept"), ["image/png", "application/json"])
    pixels = await _read_image(request, services, model_id)
    answer = await run_call(services, "reconstruct", model_id, _wait(request), pixels=pixels)
    assert answer.images is not None
    if kind == "image/png":
        return Response(to_png(answer.images), headers={"Vary": "Accept"}, media_type=kind)
    return JSONResponse({**answer.values, "image": _numbers(answer.images[0])}, headers={"Vary": "Accept"})


@router.post(
    "/models/{model_id}/decode",
    summary="Latent vectors to pictures",
    response_class=Response,
    openapi_extra=_json_body(
        {
            "z": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "array", "items": {"type": "number"}},
                "description": "Latent vectors, each of D numbers.",
            }
        },
        ["z"],
        {"z": [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]},
    ),
    responses={
        200: {
            "content": {
                "image/png": {},
                "application/json": {"schema": Decoded.model_json_schema()},
            },
            "description": "One PNG with all pictures side by side, or pixel means in [0, 1] by Accept.",
        },
        **problems.responses(*CALL_PROBLEMS),
    },
)
async def decode(model_id: str, request: Request, services: Services_) -> Response:
    """`z` holds one latent vector or several; the answer is a PNG, or by `Accept` JSON, (N, H, W, C)."""
    kind = accepted(request.headers.get("accept"), ["image/png", "application/json"])
    body = await read_json(request)
    for key in body:
        if key != "z":
            raise problems.invalid(key[:100], "is no field of this request; it has z")
    record = await anyio.to_thread.run_sync(services.models.record, model_id)
    latents = check_latents(body.get("z"), record.info.network)
    answer = await run_call(services, "decode", model_id, _wait(request), latents=latents)
    assert answer.images is not None
    if kind == "image/png":
        data = await anyio.to_thread.run_sync(to_png, answer.images)
        return Response(data, headers={"Vary": "Accept"}, media_type=kind)
    return JSONResponse({"images": _numbers(answer.images)}, headers={"Vary": "Accept"})


def _numbers(images: Any) -> Any:
    """Pixel means as nested lists; six digits tell all that float32 knows of a number below 1."""
    return images.astype("float64").round(6).tolist()


def _wait(request: Request) -> float:
    return max(1.0, wait_seconds(request.headers.get("prefer")))


async def _read_image(request: Request, services: Services, model_id: str) -> Any:
    """The uploaded picture as the model wants it, uint8 (H, W, C)."""
    record = await anyio.to_thread.run_sync(services.models.record, model_id)
    if media_type(request) == "application/x-www-form-urlencoded":
        raise Problem("unsupported_media_type", "Send multipart/form-data with an image.")
    async with read_form(request, set(), {"image"}) as form:
        if "image" not in form.files:
            raise problems.invalid("image", "is missing")
        load = _load(services, form.files["image"], record.info.preprocessing)
        return await anyio.to_thread.run_sync(load, limiter=services.decoding)


def _load(services: Services, upload: Any, preprocessing: Preprocessing) -> Any:
    def load() -> Any:
        data = read_upload(upload, services.settings.max_upload_bytes, "max_upload_bytes")
        try:
            return services.parsing.load_image(data, preprocessing, max_pixels=services.settings.max_image_pixels)
        except ConfigError as error:
            raise problems.invalid("image", error.message) from None

    return load
