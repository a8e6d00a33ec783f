"""POST /models: imports of models that were trained elsewhere."""

import hashlib
import json
from typing import Any

import anyio
from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from app import problems
from app.api.bodies import media_type, read_form
from app.api.media import id_of_upload, read_upload
from app.api.model_calls import run_import
from app.api.models import describe
from app.api.negotiation import (
    LEAST_WAIT_SECONDS,
    MAX_WAIT_SECONDS,
    KeyHeader,
    PreferHeader,
    check_key,
    wait_seconds,
)
from app.dependencies import Services, Services_
from app.openapi import request_body
from app.problems import Problem
from app.requests import ModelForm
from app.schemas import Model, respond
from models.bundles import MAX_BUNDLE_BYTES
from models.info import validate_name

upload_router = APIRouter(tags=["models"])

MAX_SPEC_BYTES = 4 * 1024**2


@upload_router.post(
    "/models",
    status_code=201,
    response_model=Model,
    summary="Import a model",
    openapi_extra=request_body({"multipart/form-data": ModelForm}),
    responses={
        201: {"description": "Imported.", "headers": {"Location": {"schema": {"type": "string"}}}},
        **problems.responses(
            "bad_request",
            "idempotency_conflict",
            "upload_too_large",
            "unsupported_media_type",
            "invalid_request",
            "invalid_model",
            "too_many_requests",
            "request_failed",
            "job_store_unavailable",
            "workers_busy",
            "storage_full",
        ),
    },
)
async def import_model(
    request: Request, services: Services_, prefer: PreferHeader = None, idempotency_key: KeyHeader = None
) -> Response:
    """Tensors are checked against the architecture, and pickles are opened without running them; a file that does not
    fit is refused (422 `invalid_model`) with a reason. The effect of moving each dimension is measured, and names it.
    """
    check_key(idempotency_key)
    if media_type(request) == "application/x-www-form-urlencoded":
        raise Problem("unsupported_media_type", "Send multipart/form-data with a file.")
    async with read_form(request, ModelForm) as form:
        name = validate_name(form.name) if form.name else ""
        seconds = max(LEAST_WAIT_SECONDS, wait_seconds(prefer, MAX_WAIT_SECONDS))
        # Files are taken one at a time, since each is held in memory here, in Redis and in the worker.
        async with services.importing:
            file, spec = await anyio.to_thread.run_sync(_read, form.file, form.spec)
            upload = {"file": file, "spec": spec, "name": name, "format": form.format}
            model_id = await _import(services, seconds, upload, idempotency_key)
    record = await anyio.to_thread.run_sync(services.models.record, model_id)
    model = describe(record, await anyio.to_thread.run_sync(services.models.default_id), request)
    return respond(model, 201, {"Location": model.links["self"]})


async def _import(services: Services, seconds: float, upload: dict[str, Any], key: str | None) -> str:
    """Returns the id of the model that an upload makes, or has made with the same key."""
    if key is None:
        return str((await run_import(services, seconds, **upload)).values["id"])

    def find() -> tuple[str, bool]:
        told = [hashlib.sha256(upload[name] or b"").hexdigest() for name in ("file", "spec")]
        digest = hashlib.sha256(json.dumps([*told, upload["name"], upload["format"]]).encode()).hexdigest()
        model_id = id_of_upload(services.storage, "models", key, digest)
        return model_id, services.models.exists(model_id)

    model_id, is_made = await anyio.to_thread.run_sync(find)
    if not is_made:
        try:
            await run_import(services, seconds, **upload, id=model_id)
        except Problem as problem:
            if problem.code == "invalid_model":
                await anyio.to_thread.run_sync(services.storage.delete, f"models/{model_id}")
            raise
    return model_id


def _read(file: UploadFile, spec: UploadFile | None) -> tuple[bytes, bytes | None]:
    return read_upload(file, MAX_BUNDLE_BYTES), None if spec is None else read_upload(spec, MAX_SPEC_BYTES)
