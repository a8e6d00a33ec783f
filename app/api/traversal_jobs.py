"""The jobs that make traversals, whole or in parts, and what is stored of a traversal."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio
from PIL import Image

from app import problems
from app.api.negotiation import FILE_WAIT_SECONDS
from app.api.waiting import wait_until_finished
from app.dependencies import Services
from app.problems import Problem
from worker.jobs.store import Job, TransitionRefused, UnknownJob
from worker.rendering.parts import files_of_parts, input_keys, job_request
from worker.rendering.request import Pixels, TraversalRequest
from worker.stores.room import NAME_FILE
from worker.stores.storage import NotStored


@dataclass(frozen=True)
class Asked:
    """A checked request: the id of its traversal, and what its job needs."""

    id: str
    model: str
    request: TraversalRequest
    images: list[Pixels]
    name: str


def keep_name(services: Services, asked: Asked) -> None:
    """Stores the name of the request, if it has one, in place of an earlier one."""
    if asked.name and name_of(services, asked.id) != asked.name:
        services.storage.write_bytes(f"traversals/{asked.id}/{NAME_FILE}", asked.name.encode(), reserve=True)


def name_of(services: Services, identity: str) -> str:
    """Returns the name that a request gave a traversal; empty without one."""
    try:
        return services.storage.read_bytes(f"traversals/{identity}/{NAME_FILE}").decode()
    except NotStored:
        return ""


def is_stored(services: Services, identity: str) -> bool:
    """Returns whether a traversal is stored, whatever files of it were made."""
    return services.storage.exists(f"traversals/{identity}/result.json")


def missing_parts(services: Services, identity: str, parts: Sequence[str] = ()) -> list[str] | None:
    """Returns which of the parts of a traversal are to be made; None if it is stored and has all of them."""
    names = services.storage.list(f"traversals/{identity}")
    if "result.json" not in names:
        return list(parts)
    files = files_of_parts(services.storage.read_json(f"traversals/{identity}/result.json")) if parts else {}
    return [part for part in parts if not set(files.get(part, [part])) <= set(names)] or None


def _under_way(services: Services, identity: str) -> Job | None:
    """Returns the job that makes a traversal, or parts of it; None if another job may be made."""
    try:
        job = services.jobs.get(identity)
        if not job.is_finished:
            return job
        # It failed, or its files are gone, or it did not make these parts: another job makes them.
        services.jobs.delete(job.id)
    except (UnknownJob, TransitionRefused):  # Another request did so in the same moment.
        pass
    services.refuse_when_full()
    services.admit("traversal", identity)
    return None


def start_job(services: Services, asked: Asked, parts: Sequence[str]) -> Job:
    """Returns the job that makes parts of a traversal: a new one, or the one that is under way, perhaps for others."""
    if (job := _under_way(services, asked.id)) is not None:
        return job
    keep_name(services, asked)
    for key, image in zip(input_keys(asked.id, len(asked.images)), asked.images, strict=True):
        services.storage.write_bytes(key, _png(image))
    parameters = asked.request.replace(format=None)
    return _create(services, job_request(asked.id, asked.model, parameters, len(asked.images), parts))


def _create(services: Services, request: dict[str, Any]) -> Job:
    """Returns the job of a request whose model there still is.

    Raises:
        UnknownModel: It is gone.
        BeingDeleted: It is being deleted.
        JustDeleted: It has been deleted meanwhile.
    """
    since = services.jobs.deletions.now()
    services.models.record(request["model"])
    return services.jobs.create("traversal", request, id=request["traversal"], since=since)


def _png(image: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, "PNG")
    return buffer.getvalue()


async def make_missing(services: Services, identity: str, part: str) -> None:
    """Makes a part of a stored traversal unless it was made before.

    Raises:
        Problem: The part could not be made, or not in time (workers_busy).
    """
    deadline = anyio.current_time() + FILE_WAIT_SECONDS
    while missing := await anyio.to_thread.run_sync(missing_parts, services, identity, [part]):
        job = await anyio.to_thread.run_sync(_start_late, services, identity, missing)
        job = await wait_until_finished(services, job, deadline - anyio.current_time())
        if not job.is_finished:
            raise Problem("workers_busy", "The file is being made; ask again in a moment.")
        if job.status != "succeeded":
            raise failure(job)


def _start_late(services: Services, identity: str, parts: Sequence[str]) -> Job:
    """Returns the job that makes parts of a stored traversal, from its own request, or the one that is under way."""
    if (job := _under_way(services, identity)) is not None:
        return job
    try:
        request = services.storage.read_json(f"traversals/{identity}/request.json")
    except NotStored:
        raise unknown_traversal(identity) from None
    return _create(services, {**request, "parts": list(parts)})


def failure(job: Job) -> Problem:
    """Returns the failure of a job that did not succeed."""
    error = job.error or {"code": job.status, "message": f"The job was {job.status}."}
    code = error["code"] if error["code"] in problems.KINDS else "request_failed"
    return Problem(code, error["message"])


def unknown_traversal(identity: str) -> Problem:
    """Returns the 404 of a traversal that there is not."""
    return Problem("unknown_traversal", f"There is no traversal with the id {identity[:64]}.")
