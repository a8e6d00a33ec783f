"""/datasets: sets of images to train on, and uploads of more."""

import time
from contextlib import suppress
from functools import partial
from typing import Annotated

import anyio
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app import problems
from app.api.bodies import media_type, read_body, read_form
from app.api.dataset_uploads import Reading, check_filename, store_dataset_upload, stream_dataset_upload
from app.api.media import bytes_to_png
from app.api.negotiation import KeyHeader, PageAfter, PageSize, bytes_response, check_key, cut_page
from app.dependencies import DatasetId, Services, Services_
from app.openapi import binary_content, request_body
from app.problems import Problem
from app.requests import DatasetForm, Name
from app.schemas import Dataset, DatasetList, Packing, respond
from models.info import PreprocessingRequest, validate_name
from training.data.sources import LARGEST_STRIDE, LAYOUTS, DatasetError
from worker.dataset_job import request_pack
from worker.jobs.clock import restart_clock
from worker.jobs.store import Job, JobStoreUnavailable, TransitionRefused, UnknownJob
from worker.stores.models import DatasetRecord
from worker.stores.samples import sample_pictures
from worker.sweeps.deletions import deletion, in_use, unfinished_users

router = APIRouter(tags=["data sets"])
upload_router = APIRouter(tags=["data sets"])

STOP_SECONDS = 15.0
"""Longest wait of a DELETE for the packing that it cancels; a worker reacts within a second."""

SAMPLE_PICTURES = 16
SAMPLE_COLUMNS = 8
SAMPLE_CACHING = "private, max-age=300"
"""Browsers show a sample again without asking; it changes only when the set is packed or its folder changes."""

RAW_TYPES = {
    "application/zip": "upload.zip",
    "application/x-zip-compressed": "upload.zip",
    "application/x-tar": "upload.tar",
    "application/gzip": "upload.tar.gz",
    "application/x-hdf5": "upload.h5",
    "application/x-npz": "upload.npz",
    "application/x-npy": "upload.npy",
}
_LAYOUTS = {"enum": list(LAYOUTS)}
_BODY = request_body({"multipart/form-data": DatasetForm, **dict.fromkeys(RAW_TYPES)})


def describe(record: DatasetRecord, request: Request, packing: list[Job] | None = None) -> Dataset:
    """Returns a data set as the API shows it, without the place where the operator keeps a folder.

    Args:
        record: The data set's entry.
        request: The request, for addresses.
        packing: The jobs that pack it; None leaves them out.
    """
    url = f"{request.scope.get('root_path', '')}/datasets/{record.id}"
    body = record.to_json()
    if record.kind in ("folder", "file"):
        body["source"] = record.source.rstrip("/").rsplit("/", 1)[-1]
    if packing is not None:
        body["packing"] = [describe_packing(job) for job in packing]
    return Dataset(**body, links={"self": url, "rejected": f"{url}/rejected", "sample": f"{url}/sample.png"})


@router.get(
    "/datasets",
    response_model_exclude_unset=True,
    summary="Data sets",
    responses=problems.responses("unknown_dataset", "invalid_request"),
)
def list_datasets(
    request: Request,
    services: Services_,
    limit: PageSize = 50,
    after: PageAfter = None,
) -> DatasetList:
    """Built-in ones come first, then the others by name; `next` is null on the last page.

    `unpacked` becomes `ready` when a first job has used the data set.
    """
    page, following = cut_page(services.datasets.page(limit + 1, after), limit)
    return DatasetList(datasets=[describe(record, request) for record in page], next=following)


@router.get(
    "/datasets/{dataset_id}",
    response_model_exclude_unset=True,
    summary="A data set",
    responses=problems.responses("unknown_dataset"),
)
def get_dataset(dataset_id: DatasetId, request: Request, services: Services_) -> Dataset:
    """`packs` has one entry for each image size and number of channels that was trained on, with factors and digest."""
    record = services.datasets.get(dataset_id)
    try:
        jobs = [job for job in services.jobs.page("dataset", limit=1000) if job.request["dataset"] == record.id]
    except JobStoreUnavailable:
        jobs = []
    return describe(record, request, jobs)


@upload_router.post(
    "/datasets",
    status_code=201,
    response_model=Dataset,
    summary="Upload a data set",
    openapi_extra=_BODY,
    responses=problems.responses(
        "bad_request", "idempotency_conflict", "upload_too_large", "unsupported_media_type", "invalid_request",
        "invalid_dataset", "storage_full",
    ),
)  # fmt: skip
async def create_dataset(
    request: Request,
    services: Services_,
    name: Annotated[Name | None, Query(description="The name, where the body is the file itself.")] = None,
    layout: Annotated[
        str, Query(description="How the files are laid out; auto: as their names say.", json_schema_extra=_LAYOUTS)
    ] = "auto",
    stride: Annotated[
        int, Query(ge=1, le=LARGEST_STRIDE, description="Only every n-th frame of videos and animations is used.")
    ] = 1,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Send a form (`name`, `file`), or the file itself with `?name=`, which takes half as much disk space."""
    if layout not in LAYOUTS:
        raise problems.invalid("layout", f"must be one of {', '.join(LAYOUTS)}")
    if name:
        validate_name(name)  # Also where a form has its own name.
    check_key(idempotency_key)
    reading = Reading(layout, stride)
    if media_type(request) in RAW_TYPES:
        filename = RAW_TYPES[media_type(request)]
        record = await stream_dataset_upload(
            services, _name(name), request.stream(), _content_length(request), filename, reading, key=idempotency_key
        )
    else:
        async with read_form(request, DatasetForm) as form:
            checked, filename = _name(form.name or name), check_filename(form.file.filename)
            file = form.file.file
            store = partial(store_dataset_upload, services, checked, file, filename, reading, key=idempotency_key)
            record = await anyio.to_thread.run_sync(store)
    resource = describe(record, request)
    return respond(resource, 201, {"Location": resource.links["self"]})


def _name(name: str | None) -> str:
    if not name:
        raise problems.invalid("name", "is missing")
    return validate_name(name)


def _content_length(request: Request) -> int:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


@router.get(
    "/datasets/{dataset_id}/rejected",
    summary="Files that were left out",
    response_class=Response,
    responses={
        200: {"description": "JSON lines: file, code, reason.", "content": binary_content("application/x-ndjson")},
        **problems.responses("unknown_dataset"),
    },
)
def list_rejected_files(dataset_id: DatasetId, request: Request, services: Services_) -> Response:
    """Each line names a file that could not be used, and why; there is none before the set was packed."""
    services.datasets.get(dataset_id)
    return bytes_response(request, services.datasets.rejected(dataset_id), "application/x-ndjson", immutable=False)


@router.get(
    "/datasets/{dataset_id}/sample.png",
    summary="A few pictures of a data set",
    response_class=Response,
    responses={
        200: {"description": "One picture of up to 16, 8 in a row.", "content": binary_content("image/png")},
        304: {"description": "The caller has it already (If-None-Match)."},
        **problems.responses("unknown_dataset", "invalid_dataset"),
    },
)
async def get_dataset_sample(dataset_id: DatasetId, request: Request, services: Services_) -> Response:
    """The pictures are spread over the set, cropped and scaled to 64 × 64 pixels."""

    def draw() -> bytes:
        try:
            return bytes_to_png(sample_pictures(services.datasets, dataset_id, SAMPLE_PICTURES), SAMPLE_COLUMNS)
        except DatasetError as error:
            # The message for a folder that is gone names the operator's path.
            detail = "Its pictures are no longer where they were." if error.code == "not_found" else error.message
            raise Problem("invalid_dataset", detail) from error

    # Foreign files are read a few at a time, as the pictures of requests are.
    data = await anyio.to_thread.run_sync(draw, limiter=services.decoding)
    return bytes_response(request, data, "image/png", headers={"Cache-Control": SAMPLE_CACHING})


@router.post(
    "/datasets/{dataset_id}/packs",
    status_code=202,
    summary="Pack a data set",
    response_model=Packing,
    openapi_extra=request_body({"application/json": PreprocessingRequest}, example={"image_size": 64}),
    responses=problems.responses(
        "unknown_dataset", "in_use", "unsupported_media_type", "upload_too_large", "invalid_request",
        "invalid_dataset", "too_many_jobs", "too_many_requests", "job_store_unavailable",
    ),
)  # fmt: skip
async def pack_dataset(dataset_id: DatasetId, request: Request, services: Services_) -> Response:
    """The images are decoded now and not when the first training needs them, which reports rejected files early."""
    asked = await read_body(request, PreprocessingRequest)

    def pack() -> Packing:
        since = services.jobs.deletions.now()
        record = services.datasets.get(dataset_id)
        services.refuse_when_full()
        try:
            preprocessing = asked.with_channels(asked.num_channels or services.datasets.num_channels(record.id))
        except DatasetError as error:
            if error.code == "parser_died":
                raise Problem("invalid_dataset", error.message) from error
            raise problems.invalid("num_channels", f"give 1 or 3: {error.message} to look for colours") from error
        return describe_packing(
            request_pack(services.jobs, record.id, preprocessing, name=record.name, admit=services.admit, since=since)
        )

    url = f"{request.scope.get('root_path', '')}/datasets/{dataset_id}"
    return respond(await anyio.to_thread.run_sync(pack), 202, {"Location": url})


@router.post(
    "/datasets/{dataset_id}/packs/{pack_id}/cancel",
    status_code=202,
    response_model_exclude_unset=True,
    summary="Cancel a packing",
    responses=problems.responses("unknown_dataset", "unknown_job", "transition_refused", "job_store_unavailable"),
)
def cancel_packing(dataset_id: DatasetId, pack_id: str, services: Services_) -> Packing:
    """A packing that waits or is under way stops and leaves nothing behind; a training that waits for it fails.

    `pack_id` is an `id` in the data set's `packing`. Another request for the pack starts it anew.
    """
    services.datasets.get(dataset_id)
    job = services.jobs.get(pack_id)
    if job.kind != "dataset" or job.request["dataset"] != dataset_id:
        raise UnknownJob(pack_id)
    return describe_packing(services.jobs.cancel(pack_id))


def describe_packing(job: Job) -> Packing:
    """Returns a job that packs, as the data set shows it."""
    body = job.to_json()
    kept = ("id", "status", "progress", "result", "error", "created_at", "finished_at")
    return Packing(**{name: body[name] for name in kept}, preprocessing=job.request["preprocessing"])


@router.delete(
    "/datasets/{dataset_id}",
    status_code=204,
    summary="Delete a data set",
    responses=problems.responses("unknown_dataset", "in_use", "read_only", "job_store_unavailable"),
)
def delete_dataset(dataset_id: DatasetId, services: Services_) -> None:
    """An upload and its packs are removed, but not a registered folder's images; its packings are cancelled.

    It is refused (409) while another job or a sweep needs it.
    """
    record = services.datasets.get(dataset_id)
    if record.kind == "builtin":
        raise Problem("read_only", f"{dataset_id} is built in.")
    with deletion(services.sweeps, "dataset", [dataset_id], spared="dataset"):
        for job in unfinished_users(services.jobs, {("dataset", dataset_id)}):
            _stop_packing(services, job)
        services.datasets.delete(dataset_id)
        for job in services.jobs.page("dataset", limit=10_000):
            if job.request["dataset"] == dataset_id:
                # Another data set of this name gets the same id, and would show the packing as its own.
                with suppress(UnknownJob, TransitionRefused):
                    services.jobs.delete(job.id)


def _stop_packing(services: Services, job: Job) -> None:
    """Cancels a packing and waits until it has ended.

    Raises:
        InUse: This takes longer than STOP_SECONDS.
    """
    deadline = time.monotonic() + STOP_SECONDS
    with suppress(UnknownJob, TransitionRefused):  # It has just ended, or is being cancelled already.
        services.jobs.cancel(job.id)
    position: str | None = None
    while True:
        restart_clock()
        try:
            job = services.jobs.get(job.id)
        except UnknownJob:
            return
        if job.is_finished:
            return
        if time.monotonic() > deadline:
            raise in_use(job)
        for event in services.jobs.wait_events(job.id, position, 1.0):
            position = event.id
