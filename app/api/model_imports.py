"""POST /models: a model that was trained elsewhere comes in."""

import anyio
from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from app import problems
from app.api.bodies import media_type, read_form
from app.api.media import read_upload
from app.api.model_calls import run_import
from app.api.models import describe
from app.api.negotiation import MAX_WAIT_SECONDS, wait_seconds
from app.dependencies import Services_
from app.problems import Problem
from app.schemas import Model
from models.bundles import MAX_BUNDLE_BYTES
from models.info import validate_name

upload_router = APIRouter(tags=["models"])

FORMATS = ("auto", "bundle", "safetensors", "disentangling-vae", "1konny")
MAX_SPEC_BYTES = 4 * 1024**2

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "A bundle (zip of model.safetensors and model.json), a "
                            "model.safetensors, or a checkpoint of YannDubs/disentangling-vae or 1Konny/Beta-VAE.",
                        },
                        "spec": {
                            "type": "string",
                            "format": "binary",
                            "description": "The description beside the file: model.json of a model.safetensors, "
                            "specs.json of disentangling-vae.",
                        },
                        "name": {"type": "string", "description": "Name of the model; empty: the one in the file."},
                        "format": {"type": "string", "enum": list(FORMATS), "default": "auto"},
                    },
                }
            }
        },
    }
}


@upload_router.post(
    "/models",
    status_code=201,
    response_model=Model,
    summary="Import a model",
    openapi_extra=_FORM,
    responses={
        201: {"description": "Taken in.", "headers": {"Location": {"schema": {"type": "string"}}}},
        **problems.responses(
            "bad_request",
            "upload_too_large",
            "unsupported_media_type",
            "invalid_request",
            "invalid_model",
            "request_failed",
            "job_store_unavailable",
            "workers_busy",
        ),
    },
)
async def import_model(request: Request, services: Services_) -> Response:
    """Tensors are checked against the architecture, pickles are opened without running them; what does not fit is
    refused (422 `invalid_model`) with a reason. What moving each dimension changes is measured, and names it."""
    if media_type(request) == "application/x-www-form-urlencoded":
        raise Problem("unsupported_media_type", "Send multipart/form-data with a file.")
    async with read_form(request, {"name", "format"}, {"file", "spec"}) as form:
        if "file" not in form.files:
            raise problems.invalid("file", "is missing")
        name = validate_name(form.values["name"]) if form.values.get("name", "").strip() else ""
        format = form.values.get("format", "") or "auto"
        if format not in FORMATS:
            raise problems.invalid("format", f"must be one of {', '.join(FORMATS)}")
        seconds = max(1.0, wait_seconds(request.headers.get("prefer"), MAX_WAIT_SECONDS))
        # One file at a time: it is held in memory here, in Redis and in the worker.
        async with services.importing:
            file, spec = await anyio.to_thread.run_sync(_read, form.files["file"], form.files.get("spec"))
            answer = await run_import(services, seconds, file=file, spec=spec, name=name, format=format)
    record = await anyio.to_thread.run_sync(services.models.record, answer.values["id"])
    body = describe(record, await anyio.to_thread.run_sync(services.models.default_id), request)
    return JSONResponse(body, 201, headers={"Location": body["links"]["self"]})


def _read(file: UploadFile, spec: UploadFile | None) -> tuple[bytes, bytes | None]:
    return read_upload(file, MAX_BUNDLE_BYTES), None if spec is None else read_upload(spec, MAX_SPEC_BYTES)
