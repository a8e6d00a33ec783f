"""/traversals: animations of latent dimensions, made from an image, a latent vector or a seed."""

import re
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app import problems
from app.api.bodies import read_form
from app.api.media import image_dimension_zip, read_upload
from app.api.negotiation import (
    DEFAULT_WAIT_SECONDS,
    FILE_WAIT_SECONDS,
    PreferHeader,
    accepted,
    bytes_response,
    wait_seconds,
)
from app.api.traversal_jobs import (
    Asked,
    failure,
    is_stored,
    keep_name,
    make_missing,
    missing_parts,
    name_of,
    start_job,
    unknown_traversal,
)
from app.api.waiting import wait_until_finished
from app.dependencies import Services, Services_
from app.openapi import binary_content, request_body
from app.problems import Problem
from app.requests import TraversalFields, TraversalForm, TraversalUploads
from app.schemas import Failure, Traversal, TraversalDimension, respond
from models.info import validate_name
from worker.jobs.store import HELD, Job, JobStoreUnavailable, UnknownJob
from worker.rendering.parts import EXTRA_FILES, files_of_parts, part_of_file, parts_of_format, traversal_id
from worker.rendering.request import FORMATS, TraversalRequest, parse_request, resolve_request
from worker.stores.storage import NotStored

router = APIRouter(tags=["traversals"])

OFFERED = tuple(FORMATS.values())
FORMAT_OF = {media_type: name for name, media_type in FORMATS.items()}
SHEETS = {"image/gif": "sheet.gif", "image/webp": "sheet.webp", "video/mp4": "sheet.mp4", "image/png": "sheet.png"}
MEDIA_TYPES = {
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".json": "application/json",
}
_ID = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"[a-z][a-z0-9_]{0,40}\.(gif|webp|mp4|png|json)")


_EXAMPLE = {
    "id": "5f0c2a9d4b7e4f7c8a1d3e5b6c7d8e9f",
    "name": "",
    "status": "succeeded",
    "model": "dsprites",
    "parameters": {"dimensions": "0,1", "start": -3.0, "end": 3.0, "steps": 31},
    "dimensions": [
        {
            "index": 0,
            "kl": 3.1,
            "active": True,
            "label": "moves up",
            "url": "/traversals/5f0c…/z_01.gif",
            "ends": ["/traversals/5f0c…/z_01_first.png", "/traversals/5f0c…/z_01_last.png"],
        },
        {
            "index": 1,
            "kl": 0.0,
            "active": False,
            "label": "",
            "url": "/traversals/5f0c…/z_02.gif",
            "ends": ["/traversals/5f0c…/z_02_first.png", "/traversals/5f0c…/z_02_last.png"],
        },
    ],
    "sheet": "/traversals/5f0c…/sheet.gif",
    "strip": "/traversals/5f0c…/sheet.png",
    "reconstruction": "/traversals/5f0c…/reconstruction.png",
    "unfamiliar": False,
    "unfamiliar_reason": None,
    "error": None,
    "links": {"self": "/traversals/5f0c…"},
}
_MAKING = (
    "unknown_traversal", "unknown_model", "in_use", "too_many_jobs", "too_many_requests", "request_failed",
    "job_store_unavailable", "workers_busy", "storage_full",
)  # fmt: skip
"""Problems of requests that may make files of a stored traversal."""
_BINARY = binary_content(*OFFERED[1:])
_JSON_CONTENT = {"application/json": {"example": _EXAMPLE}}
_LOCATION = {"Location": {"schema": {"type": "string"}, "description": "Address of the traversal."}}


@router.post(
    "/traversals",
    status_code=201,
    response_model=Traversal,
    summary="Traverse a model's latent dimensions",
    responses={
        200: {"model": Traversal, "description": "Made before, or the bytes that Accept or format asked for.",
              "content": {**_JSON_CONTENT, **_BINARY}},
        201: {"description": "Made now.", "content": _JSON_CONTENT, "headers": _LOCATION},
        202: {"model": Traversal, "description": "Not done within Prefer: wait=N; ask again at Location.",
              "content": _JSON_CONTENT, "headers": {**_LOCATION, "Retry-After": {"schema": {"type": "integer"}}}},
        **problems.responses(
            "bad_request", "unknown_model", "in_use", "not_acceptable", "upload_too_large", "image_too_large",
            "unsupported_media_type", "unsupported_image", "invalid_request", "not_an_image", "too_many_jobs",
            "too_many_requests", "request_failed", "job_store_unavailable", "workers_busy", "storage_full",
        ),
    },
    openapi_extra=request_body(
        {"multipart/form-data": TraversalForm, "application/x-www-form-urlencoded": TraversalFields},
    ),
)  # fmt: skip
async def create_traversal(
    request: Request,
    services: Services_,
    prefer: PreferHeader = None,
    model: Annotated[str, Query(description="The model, where the form names none.", max_length=200)] = "",
) -> Response:
    """Send an `image` (or a latent vector `z`, or a `seed`); every other field has a default.

    With `image2` beside `image`, or `z2` beside `z`, the traversal is the path between the two.

    The id is a hash of model, pixels, parameters and renderer, so that the same request is the same traversal, which
    the storage answers. `Accept`, or the field `format`, chooses the answer: JSON, the animated sheet (GIF, WebP, MP4),
    the static one (PNG), or a zip with a GIF a dimension. `Prefer: wait=N` says how many seconds to wait (by default 10
    for JSON, 60 for a file); a traversal that is not done by then is answered with 202 and JSON.
    """
    async with read_form(request, TraversalForm) as form:
        asked = await anyio.to_thread.run_sync(_understand, services, form, model, limiter=services.decoding)
    media_type = FORMATS[asked.request.format or "json"]
    if asked.request.format is None:
        media_type = accepted(request.headers.get("accept"), OFFERED)
    format = FORMAT_OF[media_type]
    parts = parts_of_format(format, is_path=asked.request.is_path(len(asked.images)))
    status = 200
    patience = DEFAULT_WAIT_SECONDS if format == "json" else FILE_WAIT_SECONDS
    deadline = anyio.current_time() + wait_seconds(prefer, patience)
    needed = () if format == "json" else parts
    while await anyio.to_thread.run_sync(missing_parts, services, asked.id, needed) is not None:
        status = 201
        job = await anyio.to_thread.run_sync(start_job, services, asked, parts)
        job = await wait_until_finished(services, job, deadline - anyio.current_time())
        if not job.is_finished:
            return await anyio.to_thread.run_sync(_pending, services, request, job)
        if job.status != "succeeded":
            raise failure(job)
    await anyio.to_thread.run_sync(keep_name, services, asked)
    return await anyio.to_thread.run_sync(_made, request, services, asked.id, media_type, status)


def _understand(services: Services, form: TraversalUploads, model: str) -> Asked:
    named = form.model.strip() or model.strip()
    parameters = parse_request(form.parameters)
    model_id = services.models.find(named) if named else services.default_model()
    info = services.models.info(model_id)
    if form.image2 is not None and form.image is None:
        raise problems.invalid("image2", "needs an image beside it")
    uploads = [upload for upload in (form.image, form.image2) if upload is not None]
    resolved = resolve_request(parameters, info, len(uploads))
    images = []
    for upload in uploads:
        data = read_upload(upload, services.settings.max_upload_bytes, "max_upload_bytes")
        images.append(
            services.pictures.load_image(data, info.preprocessing, max_pixels=services.settings.max_image_pixels)
        )
    name = validate_name(form.name) if form.name else ""
    return Asked(traversal_id(resolved, info, images), model_id, resolved, images, name)


def _made(request: Request, services: Services, identity: str, media_type: str, status: int) -> Response:
    """Returns the answer for a stored traversal, in the chosen media type."""
    url = str(request.scope.get("root_path", "")) + f"/traversals/{identity}"
    headers = {"Vary": "Accept", "Content-Location": url}
    if media_type == "application/json":
        if status == 201:
            headers["Location"] = url
        return respond(describe(services, identity, request), status, headers)
    if media_type == "application/zip":
        data = image_dimension_zip(services.storage, f"traversals/{identity}")
        return bytes_response(request, data, media_type, filename=f"{identity}.zip", immutable=False, headers=headers)
    name = SHEETS[media_type]
    headers["Content-Location"] = f"{url}/{name}"
    return bytes_response(request, _read(services, identity, name), media_type, immutable=False, headers=headers)


def describe(services: Services, identity: str, request: Request) -> Traversal:
    """Returns a stored traversal as the API shows it.

    Args:
        services: The services.
        identity: The traversal's id.
        request: The request, for addresses.

    Raises:
        Problem: The traversal is not stored (unknown_traversal).
    """
    try:
        result = services.storage.read_json(f"traversals/{identity}/result.json")
    except NotStored:
        raise unknown_traversal(identity) from None
    url = str(request.scope.get("root_path", "")) + f"/traversals/{identity}"
    made = services.storage.list(f"traversals/{identity}")
    names = {*made, *(name for files in files_of_parts(result).values() for name in files)}
    address = {name: f"{url}/{name}" for name in names if _FILE.fullmatch(name)}
    for one in result["dimensions"]:
        one["url"] = f"{url}/{one.pop('file')}"
        one["ends"] = [f"{url}/{name}" for name in one.pop("end_files", ())] or None
    kept = {name: value for name, value in result.items() if name not in ("id", "request", "dimensions", "files")}
    return Traversal(
        **kept,
        id=identity,
        name=name_of(services, identity),
        status="succeeded",
        parameters=_parameters(result["request"]),
        dimensions=[TraversalDimension(**one) for one in result["dimensions"]],
        sheet=address.get("sheet.gif"),
        strip=address.get("sheet.png"),
        reconstruction=address.get("reconstruction.png"),
        error=None,
        links={"self": url, **{name.replace(".", "_"): link for name, link in sorted(address.items())}},
    )


def _parameters(request: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that decide the pictures, which the format of the first request does not."""
    return {name: value for name, value in request.items() if name != "format"}


def _pending(services: Services, request: Request, job: Job, status: int = 202) -> Response:
    """Returns the answer for a traversal that is being made, or whose job failed."""
    url = str(request.scope.get("root_path", "")) + f"/traversals/{job.id}"
    body = Traversal(
        id=job.id,
        status=job.status,
        name=name_of(services, job.id),
        model=job.request["model"],
        parameters=_parameters(job.request["request"]),
        dimensions=[],
        sheet=None,
        strip=None,
        reconstruction=None,
        error=Failure(**job.error) if job.error else None,
        links={"self": url},
    )
    headers = {"Location": url} if status == 202 else {}
    if not job.is_finished:
        headers["Retry-After"] = "1"
    return respond(body, status, headers)


def _read(services: Services, identity: str, name: str) -> bytes:
    try:
        return services.storage.read_bytes(f"traversals/{identity}/{name}")
    except NotStored:
        raise Problem("unknown_file", f"The traversal has no file {name[:64]}.") from None


@router.get(
    "/traversals/{traversal_id}",
    response_model=Traversal,
    summary="A traversal",
    responses={
        200: {"content": {**_JSON_CONTENT, **_BINARY}, "description": "The traversal, in any of its media types."},
        **problems.responses(*_MAKING, "not_acceptable"),
    },
)
async def get_traversal(traversal_id: str, request: Request, services: Services_) -> Response:
    """The answer is JSON, or by `Accept` the sheet or the zip, once `status` is `succeeded`; until then, ask again."""
    if not _ID.fullmatch(traversal_id):
        raise unknown_traversal(traversal_id)
    offered = await anyio.to_thread.run_sync(_offered, services, traversal_id)
    media_type = accepted(request.headers.get("accept"), offered or OFFERED)
    if not offered:
        return await anyio.to_thread.run_sync(_not_made, request, services, traversal_id)
    for part in await anyio.to_thread.run_sync(_needed_parts, services, traversal_id, media_type):
        await make_missing(services, traversal_id, part)
    return await anyio.to_thread.run_sync(_made, request, services, traversal_id, media_type, 200)


def _offered(services: Services, identity: str) -> list[str]:
    """Returns the media types of a stored traversal; none if it is not stored."""
    names = services.storage.list(f"traversals/{identity}")
    if "result.json" not in names:
        return []
    return [kind for kind in OFFERED if (name := EXTRA_FILES.get(FORMAT_OF[kind])) is None or name in names]


def _needed_parts(services: Services, identity: str, media_type: str) -> list[str]:
    """Returns the parts of a stored traversal that an answer of a media type carries."""
    if media_type == "application/json":
        return []
    try:
        job = services.storage.read_json(f"traversals/{identity}/request.json")
    except NotStored:
        raise unknown_traversal(identity) from None
    request = TraversalRequest.from_json(job["request"])
    return parts_of_format(FORMAT_OF[media_type], is_path=request.is_path(job["num_images"]))


def _not_made(request: Request, services: Services, traversal_id: str) -> Response:
    """Returns the answer for a traversal that is not stored."""
    try:
        job = services.jobs.get(traversal_id)
    except UnknownJob:
        raise unknown_traversal(traversal_id) from None
    if job.status == "succeeded":
        raise unknown_traversal(traversal_id)
    return _pending(services, request, job, 200)


@router.head("/traversals/{traversal_id}/{name}", include_in_schema=False)
@router.get(
    "/traversals/{traversal_id}/{name}",
    summary="A file of a traversal",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "content": {**binary_content(*SHEETS), "application/json": {"schema": {"type": "object"}}},
        },
        206: {"description": "The requested range."},
        304: {"description": "The client has the file already (If-None-Match)."},
        **problems.responses(*_MAKING, "unknown_file", "range_not_satisfiable"),
    },
)
async def get_traversal_file(traversal_id: str, name: str, request: Request, services: Services_) -> Response:
    """`z_01.gif` is dimension 0. Files never change: they have a strong `ETag`, and caches may keep them for ever.

    A file that no request has needed yet is made now, which takes as long as a traversal.
    """
    if await anyio.to_thread.run_sync(_is_still_to_make, services, traversal_id, name):
        await make_missing(services, traversal_id, part_of_file(name))
    data = await anyio.to_thread.run_sync(_read, services, traversal_id, name)
    suffix = "." + name.rsplit(".", 1)[1]
    return bytes_response(request, data, MEDIA_TYPES[suffix], immutable=suffix != ".json")


def _is_still_to_make(services: Services, identity: str, name: str) -> bool:
    """Returns whether a file of a stored traversal has not been made yet.

    Raises:
        Problem: There is no such traversal, or it never has such a file.
    """
    if not _ID.fullmatch(identity) or not is_stored(services, identity):
        raise unknown_traversal(identity)
    if not _FILE.fullmatch(name):
        raise Problem("unknown_file", f"The traversal has no file {name[:64]}.")
    if services.storage.exists(f"traversals/{identity}/{name}"):
        return False
    result = services.storage.read_json(f"traversals/{identity}/result.json")
    if name not in files_of_parts(result).get(part_of_file(name), ()):
        raise Problem("unknown_file", f"The traversal has no file {name[:64]}.")
    return True


@router.delete(
    "/traversals/{traversal_id}",
    status_code=204,
    summary="Delete a traversal",
    responses=problems.responses("unknown_traversal", "transition_refused", "job_store_unavailable"),
)
def delete_traversal(traversal_id: str, services: Services_) -> None:
    """The files are removed, and the job if it waits; it is refused (409) while the traversal is being made."""
    if not _ID.fullmatch(traversal_id):
        raise unknown_traversal(traversal_id)
    stored = is_stored(services, traversal_id)
    try:
        job = services.jobs.get(traversal_id)
        if job.status in HELD:
            raise Problem("transition_refused", "The traversal is being made; delete it when it is done.")
        if not job.is_finished:
            services.jobs.cancel(job.id)
        services.jobs.delete(job.id)
    except UnknownJob:
        if not stored:
            raise unknown_traversal(traversal_id) from None
    except JobStoreUnavailable:
        # A Redis on a full disk refuses to forget the job, and needs the room that this makes.
        if not stored:
            raise
    services.storage.delete(f"traversals/{traversal_id}")
