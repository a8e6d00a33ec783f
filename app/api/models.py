"""/models: the registry, its default, export, and calls of a model."""

from dataclasses import replace
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app import problems
from app.api.bodies import media_type, read_body, read_form
from app.api.media import read_upload, to_png
from app.api.model_calls import EXPORTS, SUFFIXES, check_latents, export_bytes, run_call
from app.api.negotiation import (
    LEAST_WAIT_SECONDS,
    PageAfter,
    PageSize,
    PreferHeader,
    accepted,
    bytes_response,
    cut_page,
    wait_seconds,
)
from app.dependencies import ModelId, Services, Services_
from app.openapi import binary_content, request_body
from app.problems import Problem
from app.requests import DefaultModel, ImageForm, LatentVectors, ModelChanges
from app.schemas import Decoded, Encoded, Model, ModelDimension, ModelList, ModelSummary, Reconstructed, respond
from models.config import ConfigError
from models.info import ModelInfo
from training.data.images import Preprocessing
from worker.rendering.parts import end_files
from worker.stores.models import ModelRecord
from worker.sweeps.deletions import deletion

router = APIRouter(tags=["models"])

_ENDS_SECONDS = 3600
"""How long a browser keeps the pictures of a model's ends, which change only when the model is labelled anew."""
LINKS = ("export", "web", "explorer.html", "encode", "decode", "reconstruct", "evaluations")
CALL_PROBLEMS = (
    "bad_request", "unknown_model", "not_acceptable", "upload_too_large", "unsupported_media_type", "invalid_request",
    "model_overflow", "too_many_requests", "job_store_unavailable", "workers_busy", "request_failed",
)  # fmt: skip
IMAGE_PROBLEMS = (*CALL_PROBLEMS, "image_too_large", "unsupported_image", "not_an_image")
_IMAGE_FORM = request_body({"multipart/form-data": ImageForm})


def describe(record: ModelRecord, default: str | None, request: Request) -> Model:
    """Returns a model as the API shows it.

    Args:
        record: The model's entry.
        default: Id of the default model.
        request: The request, for addresses.
    """
    return Model(**_fields(record, default, request, Model))


def _fields(record: ModelRecord, default: str | None, request: Request, shape: type[ModelSummary]) -> dict[str, Any]:
    """Returns the fields of a model that a shape of answers has."""
    info = record.info
    url = f"{request.scope.get('root_path', '')}/models/{record.id}"
    known = {
        **info.described(),
        "id": record.id,
        "default": record.id == default,
        "shipped": record.shipped,
        "active_dimensions": info.active_dimensions,
        "dimensions": [_dimension(info, k, url) for k in range(info.network.latent_dim)],
        "links": {"self": url, **{name: f"{url}/{name}" for name in LINKS}},
    }
    return {name: known[name] for name in shape.model_fields}


def _dimension(info: ModelInfo, index: int, url: str) -> ModelDimension:
    return ModelDimension(
        index=index,
        kl=info.kl_per_dimension[index] if info.kl_per_dimension else None,
        active=index in info.active_dimensions if info.kl_per_dimension else info.is_visible(index),
        label=info.dimension_labels[index] if info.dimension_labels else "",
        strength=info.dimension_effects[index].get("strength") if info.dimension_effects else None,
        ends=[f"{url}/ends/{name}" for name in end_files(index)],
    )


@router.get(
    "/models",
    response_model_exclude_unset=True,
    summary="Models",
    responses=problems.responses("unknown_model", "invalid_request"),
)
def list_models(
    request: Request,
    services: Services_,
    limit: PageSize = 50,
    after: PageAfter = None,
) -> ModelList:
    """Models that ship come first, then those of the storage, the newest first; `next` is null on the last page.

    `GET /models/{model_id}` has the measurements of each dimension, which the list leaves out.
    """
    page, following = cut_page(services.models.page(limit + 1, after), limit)
    default = services.models.default_id()
    models = [ModelSummary(**_fields(record, default, request, ModelSummary)) for record in page]
    return ModelList(models=models, default=default, next=following)


@router.get(
    "/models/default",
    response_model_exclude_unset=True,
    summary="The default model",
    responses=problems.responses("unknown_model"),
)
def get_default_model(request: Request, services: Services_) -> Model:
    """The service uses this model when a request names none."""
    default = services.default_model()
    return describe(services.models.record(default), default, request)


@router.put(
    "/models/default",
    response_model_exclude_unset=True,
    summary="Choose the default model",
    openapi_extra=request_body({"application/json": DefaultModel}, example={"id": "dsprites"}),
    responses=problems.responses("unknown_model", "unsupported_media_type", "upload_too_large", "invalid_request"),
)
async def set_default_model(request: Request, services: Services_) -> Model:
    """From now on, the service uses this model when a request names none."""
    chosen = await read_body(request, DefaultModel)

    def put() -> Model:
        model_id = services.models.find(chosen.id)
        services.models.set_default(model_id)
        return describe(services.models.record(model_id), model_id, request)

    return await anyio.to_thread.run_sync(put)


@router.get(
    "/models/{model_id}",
    response_model_exclude_unset=True,
    summary="A model",
    responses=problems.responses("unknown_model"),
)
def get_model(model_id: ModelId, request: Request, services: Services_) -> Model:
    """The answer has architecture, preprocessing, data set, settings, KL per dimension in nats, and licence."""
    return describe(services.models.record(model_id), services.models.default_id(), request)


@router.patch(
    "/models/{model_id}",
    response_model_exclude_unset=True,
    summary="Rename a model, or its dimensions",
    openapi_extra=request_body(
        {"application/json": ModelChanges},
        example={"name": "faces 2", "dimension_labels": ["smile", "", "hair", "", "", "", "", "", "", ""]},
    ),
    responses=problems.responses(
        "unknown_model", "read_only", "unsupported_media_type", "upload_too_large", "invalid_request"
    ),
)
async def update_model(model_id: ModelId, request: Request, services: Services_) -> Model:
    """`dimension_labels` has one text a dimension, empty where there is none. The id stays."""
    changes = await read_body(request, ModelChanges)

    def patch() -> Model:
        _update(services, model_id, changes)
        return describe(services.models.record(model_id), services.models.default_id(), request)

    return await anyio.to_thread.run_sync(patch)


def _update(services: Services, model_id: str, changes: ModelChanges) -> None:
    record = services.models.record(model_id)
    latent_dim = record.info.network.latent_dim
    if "dimension_labels" in changes.model_fields_set:
        labels = changes.dimension_labels
        if len(labels) not in (0, latent_dim):
            raise problems.invalid("dimension_labels", f"must be {latent_dim} texts for this model, not {len(labels)}")
        services.models.update(model_id, replace(record.info, dimension_labels=labels))
    if "name" in changes.model_fields_set:
        services.models.rename(model_id, changes.name)


@router.delete(
    "/models/{model_id}",
    status_code=204,
    summary="Delete a model",
    responses=problems.responses("unknown_model", "in_use", "read_only", "job_store_unavailable"),
)
def delete_model(model_id: ModelId, services: Services_) -> None:
    """The deletion is refused (409) for a model that ships, for the default, and while a job or a sweep needs it."""
    record = services.models.record(model_id)
    if not record.shipped and services.models.default_id() == model_id:
        raise Problem("in_use", "It is the default model; choose another one first (PUT /models/default).")
    with deletion(services.sweeps, "model", [model_id]):
        services.models.delete(model_id)


@router.get(
    "/models/{model_id}/export",
    summary="Export a model",
    response_class=Response,
    responses={
        200: {
            "description": "A zip with model.safetensors, model.json and the model card (`bundle`, what an import "
            "takes); a zip with encoder.onnx, decoder.onnx and the card (`onnx`); or the card alone (`card`).",
            "content": binary_content("application/zip", "text/markdown"),
        },
        304: {"description": "The caller has it already (If-None-Match)."},
        **problems.responses(
            "unknown_model",
            "invalid_request",
            "too_many_requests",
            "request_failed",
            "job_store_unavailable",
            "workers_busy",
        ),
    },
)
async def export_model(
    model_id: ModelId,
    request: Request,
    services: Services_,
    format: Annotated[Literal["bundle", "onnx", "card"], Query(description="Format of the file.")] = "bundle",
    prefer: PreferHeader = None,
) -> Response:
    """The formats are safetensors and a description in JSON, ONNX graphs of encoder and decoder, or a model card."""
    data = await export_bytes(services, model_id, format, _wait(prefer))
    filename = model_id + SUFFIXES[format]
    return bytes_response(request, data, EXPORTS[format], filename=filename, immutable=False)


@router.post(
    "/models/{model_id}/encode",
    response_model_exclude_unset=True,
    summary="The posterior of an image",
    openapi_extra=_IMAGE_FORM,
    responses=problems.responses(*IMAGE_PROBLEMS),
)
async def encode_image(
    model_id: ModelId, request: Request, services: Services_, prefer: PreferHeader = None
) -> Encoded:
    """The answer has mean and log-variance of q(z given x), and in nats its KL from the prior per dimension and the
    reconstruction loss.
    """
    accepted(request.headers.get("accept"), ["application/json"])
    pixels = await _read_image(request, services, model_id)
    answer = await run_call(services, "encode", model_id, _wait(prefer), pixels=pixels)
    return Encoded(**answer.values)


@router.post(
    "/models/{model_id}/reconstruct",
    summary="An image through the model",
    response_class=Response,
    openapi_extra=_IMAGE_FORM,
    responses={
        200: {
            "model": Reconstructed,
            "content": binary_content("image/png"),
            "description": "A PNG, or the numbers, by Accept.",
        },
        **problems.responses(*IMAGE_PROBLEMS),
    },
)
async def reconstruct_image(
    model_id: ModelId, request: Request, services: Services_, prefer: PreferHeader = None
) -> Response:
    """The answer is the decoded posterior mean, as PNG, or by `Accept` as JSON with the numbers of encode."""
    kind = accepted(request.headers.get("accept"), ["image/png", "application/json"])
    pixels = await _read_image(request, services, model_id)
    answer = await run_call(services, "reconstruct", model_id, _wait(prefer), pixels=pixels)
    images = answer.images
    assert images is not None
    if kind == "image/png":
        return Response(to_png(images), headers={"Vary": "Accept"}, media_type=kind)

    def write() -> Response:
        numbers = Reconstructed(**answer.values, image=_numbers(images[0]), input=_numbers(pixels / 255))
        return respond(numbers, headers={"Vary": "Accept"})

    return await anyio.to_thread.run_sync(write, limiter=services.parsing)


@router.post(
    "/models/{model_id}/decode",
    summary="Latent vectors to images",
    response_class=Response,
    openapi_extra=request_body({"application/json": LatentVectors}, example={"z": [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]}),
    responses={
        200: {
            "model": Decoded,
            "content": binary_content("image/png"),
            "description": "One PNG with all images side by side, or pixel means in [0, 1] by Accept.",
        },
        **problems.responses(*CALL_PROBLEMS),
    },
)
async def decode_latents(
    model_id: ModelId, request: Request, services: Services_, prefer: PreferHeader = None
) -> Response:
    """`z` holds one latent vector or several; the answer is a PNG, or by `Accept` JSON, (N, H, W, C)."""
    kind = accepted(request.headers.get("accept"), ["image/png", "application/json"])
    body = await read_body(request, LatentVectors)
    record = await anyio.to_thread.run_sync(services.models.record, model_id)
    latents = check_latents(body.z, record.info.network)
    answer = await run_call(services, "decode", model_id, _wait(prefer), latents=latents)
    images = answer.images
    assert images is not None

    def draw() -> Response:
        if kind == "image/png":
            return Response(to_png(images), headers={"Vary": "Accept"}, media_type=kind)
        return respond(Decoded(images=_numbers(images)), headers={"Vary": "Accept"})

    # A million numbers as JSON hold the interpreter for a second, so only a few answers are written at once.
    return await anyio.to_thread.run_sync(draw, limiter=services.parsing)


@router.head("/models/{model_id}/ends/{name}", include_in_schema=False)
@router.get(
    "/models/{model_id}/ends/{name}",
    summary="An end of a dimension, as a picture",
    response_class=Response,
    responses={
        200: {"content": binary_content("image/png"), "description": "The picture."},
        304: {"description": "The caller has it already (If-None-Match)."},
        **problems.responses(
            "unknown_model", "unknown_file", "too_many_requests", "job_store_unavailable", "workers_busy",
            "request_failed", "range_not_satisfiable",
        ),
    },
)  # fmt: skip
async def get_end(
    model_id: ModelId, name: str, request: Request, services: Services_, prefer: PreferHeader = None
) -> Response:
    """`z_01_first.png` and `z_01_last.png` show a typical picture with dimension 0 at −2 and at 2."""
    record = await anyio.to_thread.run_sync(services.models.record, model_id)
    names = [end for k in range(record.info.network.latent_dim) for end in end_files(k)]
    if name not in names:
        raise Problem("unknown_file", f"The model has no picture {name[:64]}.")
    index, end = divmod(names.index(name), 2)
    latents = [record.info.label_ends(index)[end]]
    answer = await run_call(services, "decode", model_id, _wait(prefer), latents=latents)
    assert answer.images is not None
    headers = {"Cache-Control": f"private, max-age={_ENDS_SECONDS}"}
    return bytes_response(request, to_png(answer.images), "image/png", immutable=False, headers=headers)


def _numbers(images: Any) -> Any:
    """Returns pixel means as nested lists; six digits hold all that float32 does of a number below 1."""
    return images.astype("float64").round(6).tolist()


def _wait(prefer: str | None) -> float:
    return max(LEAST_WAIT_SECONDS, wait_seconds(prefer))


async def _read_image(request: Request, services: Services, model_id: str) -> Any:
    """Returns the uploaded image as the model's input, uint8 (H, W, C)."""
    record = await anyio.to_thread.run_sync(services.models.record, model_id)
    if media_type(request) == "application/x-www-form-urlencoded":
        raise Problem("unsupported_media_type", "Send multipart/form-data with an image.")
    async with read_form(request, ImageForm) as form:

        def load() -> Any:
            data = read_upload(form.image, services.settings.max_upload_bytes, "max_upload_bytes")
            return load_picture(services, data, record.info.preprocessing)

        return await anyio.to_thread.run_sync(load, limiter=services.decoding)


def load_picture(services: Services, data: bytes, preprocessing: Preprocessing) -> Any:
    """Returns an uploaded picture as a model's input, uint8 (H, W, C).

    Args:
        services: The services.
        data: The file.
        preprocessing: The model's preprocessing.

    Raises:
        Problem: The preprocessing does not fit the picture; it names image.
        ImageError: The file is not a picture, or too large.
    """
    try:
        return services.pictures.load_image(data, preprocessing, max_pixels=services.settings.max_image_pixels)
    except ConfigError as error:
        raise problems.invalid("image", error.message) from None
