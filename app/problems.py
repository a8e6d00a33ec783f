"""Every failure over HTTP has one shape: `application/problem+json` (RFC 9457) with a stable `code`.

Routes raise `Problem`. `install` catches it and everything else that can end a request: the framework's own 404, 405,
413 and 422, errors of the layers below (an unreachable Redis, a refused setting), and bugs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, JsonValue
from pydantic.fields import FieldInfo
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.headers import SAFE_HEADERS
from app.observability.request_ids import HEADER as REQUEST_ID_HEADER
from models.config import ConfigError, explain, unknown_setting
from worker.stores.logs import REQUEST_ID

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5
MAX_NAME_LENGTH = 100
"""Characters of an unknown field's name that an answer repeats."""


@dataclass(frozen=True)
class ProblemKind:
    """The meaning of a `code`: its status and title never change, while the detail names the case."""

    status: int
    title: str


KINDS: dict[str, ProblemKind] = {
    "bad_request": ProblemKind(400, "The request could not be read"),
    "token_required": ProblemKind(401, "A token is required"),
    "scope_missing": ProblemKind(403, "The token's scope does not include this"),
    "cross_site_refused": ProblemKind(403, "Pages of other sites may not change anything"),
    "not_found": ProblemKind(404, "There is nothing at this address"),
    "unknown_traversal": ProblemKind(404, "No such traversal"),
    "unknown_job": ProblemKind(404, "No such job"),
    "unknown_model": ProblemKind(404, "No such model"),
    "unknown_dataset": ProblemKind(404, "No such data set"),
    "unknown_sweep": ProblemKind(404, "No such sweep"),
    "unknown_file": ProblemKind(404, "No such file"),
    "method_not_allowed": ProblemKind(405, "This address does not take that method"),
    "not_acceptable": ProblemKind(406, "None of the accepted media types can be made"),
    "transition_refused": ProblemKind(409, "The job's state does not allow this"),
    "already_exists": ProblemKind(409, "The name is taken"),
    "ambiguous_name": ProblemKind(409, "Several things have this name"),
    "in_use": ProblemKind(409, "It is in use"),
    "read_only": ProblemKind(409, "It ships with the service and cannot be changed"),
    "request_timeout": ProblemKind(408, "The request's body came too slowly"),
    "not_ready": ProblemKind(409, "It is not ready yet"),
    "idempotency_conflict": ProblemKind(409, "The Idempotency-Key came with another request before"),
    "upload_too_large": ProblemKind(413, "The request's body is too large"),
    "image_too_large": ProblemKind(413, "The image is too large"),
    "unsupported_media_type": ProblemKind(415, "The body's media type is not supported"),
    "unsupported_image": ProblemKind(415, "The image's format is not supported"),
    "range_not_satisfiable": ProblemKind(416, "The file does not have that range"),
    "host_not_allowed": ProblemKind(421, "The service does not answer to this host"),
    "invalid_request": ProblemKind(422, "The request is not valid"),
    "not_an_image": ProblemKind(422, "The upload is not an image"),
    "invalid_dataset": ProblemKind(422, "The upload is not a data set"),
    "invalid_model": ProblemKind(422, "The upload is not a model"),
    "model_overflow": ProblemKind(422, "The model's numbers overflow for this input"),
    "too_many_jobs": ProblemKind(429, "Too much work is waiting already"),
    "too_many_requests": ProblemKind(429, "This client has too much in flight"),
    "request_failed": ProblemKind(500, "The work failed"),
    "internal_error": ProblemKind(500, "Internal error"),
    "job_store_unavailable": ProblemKind(503, "The job store cannot be reached"),
    "workers_busy": ProblemKind(503, "No worker answered in time"),
    "storage_full": ProblemKind(507, "There is no room on the storage"),
}

_CODE_BY_STATUS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    413: "upload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "invalid_request",
    503: "job_store_unavailable",
}


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemDetails(BaseModel):
    """Every failure has this shape. `code` is stable; `detail` is for people."""

    type: str = Field(description="Address of the description of this code.")
    title: str
    status: int
    detail: str
    code: str = Field(json_schema_extra={"enum": list[JsonValue](sorted(KINDS))})
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="The id of the request, as in `X-Request-ID`, which the log names too.")
    errors: list[FieldError] = Field([], description="The fields that are wrong, where any are named.")


@dataclass
class Problem(Exception):
    """A failure of a request, as the client reads it.

    Attributes:
        code: A key of KINDS.
        detail: One sentence about this case.
        errors: One entry per wrong field, each {"field", "message"}.
        headers: Headers that are added to those of the response.
    """

    code: str
    detail: str
    errors: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.detail)

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return KINDS[self.code].status


class BodyTooSlow(HTTPException):
    """A body did not come in time; see BodyTooLarge."""

    def __init__(self, detail: str) -> None:
        super().__init__(408, detail, {"Connection": "close"})


class BodyTooLarge(HTTPException):
    """A body grew over a limit while it was read.

    FastAPI lets an HTTPException through while it reads a body, and takes every other exception for a malformed body.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(413, detail)


def invalid(field_name: str, message: str) -> Problem:
    """Returns a 422 for one field."""
    return Problem("invalid_request", f"{field_name}: {message}", [{"field": field_name, "message": message}])


def unknown_field(name: str, known: Iterable[str]) -> Problem:
    """Returns a 422 for a field that a body does not have, with the nearest known name, or with all of them.

    Args:
        name: The field that the client sent.
        known: The fields that the body has.
    """
    error = _unknown_field(name, known)
    return invalid(error.field, error.message)


def _unknown_field(name: str, known: Iterable[str]) -> ConfigError:
    names = sorted(known)
    message = "is not a field of this request"
    error = unknown_setting(name[:MAX_NAME_LENGTH], names, message)
    return error if error.message != message else ConfigError(error.field, f"{message}; it has {', '.join(names)}")


def validation_problem(failures: Iterable[Any], fields: Mapping[str, FieldInfo] | None = None) -> Problem:
    """Returns a 422 that says what is wrong with every field, in the words of models.config.

    Args:
        failures: The entries of pydantic's `errors()`.
        fields: The fields of the body that was checked.
    """
    known = {field.alias or name: field for name, field in (fields or {}).items()}
    messages: dict[str, str] = {}
    for failure in failures:
        name, message = _explained(failure, known)
        messages.setdefault(name, message)
    errors = [{"field": name, "message": message} for name, message in messages.items()]
    detail = "; ".join(f"{e['field']}: {e['message']}" for e in errors[:3]) or "The request is not valid."
    return Problem("invalid_request", detail, errors)


def _explained(failure: Any, known: Mapping[str, FieldInfo]) -> tuple[str, str]:
    """Returns the name of the field and what is wrong with it; a place inside a list is part of the latter."""
    path = list(failure["loc"])
    if path and path[0] in ("body", "query", "path", "header"):
        path = path[1:] or path
    indices = "".join(f"[{part}]" for part in path if isinstance(part, int))
    name = ".".join(part for part in path if isinstance(part, str))
    if failure["type"] == "extra_forbidden":
        error = _unknown_field(name, known)
        return error.field, error.message
    cause = failure.get("ctx", {}).get("error")
    message = cause.message if isinstance(cause, ConfigError) else explain(failure)
    if failure["type"] == "missing" and name in known and (text := known[name].description):
        message += f": {text[0].lower()}{text[1:].rstrip('.')}"
    return name or "body", f"{message} (at {indices})" if indices else message


def _details(problem: Problem, instance: str, request_id: str) -> ProblemDetails:
    """Returns the body of the answer, which has `errors` only when fields are named."""
    kind = KINDS[problem.code]
    errors = {"errors": [FieldError(**error) for error in problem.errors]} if problem.errors else {}
    return ProblemDetails(
        type=f"/problems/{problem.code}",
        title=kind.title,
        status=kind.status,
        detail=problem.detail,
        code=problem.code,
        instance=instance,
        request_id=request_id,
        **errors,
    )


def problem_response(problem: Problem, instance: str) -> Response:
    """Returns the answer; 429 and 503 always carry Retry-After."""
    headers = dict(problem.headers)
    if problem.status in (429, 503):
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    headers.setdefault("Cache-Control", "no-store")
    # Answers to bugs pass by the middleware that adds these to all others.
    request_id = REQUEST_ID.get()
    headers = {**SAFE_HEADERS, REQUEST_ID_HEADER: request_id, **headers}
    body = _details(problem, instance, request_id).model_dump_json(exclude_unset=True, ensure_ascii=True)
    return Response(body, problem.status, headers, MEDIA_TYPE)


def _from_status(status: int, detail: str, headers: dict[str, str] | None) -> Problem:
    code = _CODE_BY_STATUS.get(status, "internal_error" if status >= 500 else "bad_request")
    return Problem(code, detail, headers=dict(headers or {}))


def install(app: FastAPI, translate: dict[type[Exception], Any], body_limits: dict[int, str] | None = None) -> None:
    """Makes `app` answer every failure with a problem.

    Args:
        app: The application.
        translate: Exceptions of the layers below, each with a function (exception) -> Problem.
        body_limits: Limits of bodies in bytes, each with the setting that it comes from.
    """
    settings = body_limits or {}

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return problem_response(error, request.url.path)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        detail = str(error.detail)
        if error.status_code == 413 and not isinstance(error, BodyTooLarge):
            detail = _too_large(request.scope, settings)
        return problem_response(_from_status(error.status_code, detail, headers), request.url.path)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return problem_response(validation_problem(error.errors()), request.url.path)

    async def on_bug(request: Request, error: Exception) -> Response:
        # Starlette raises it again after the answer, so that the server logs the trace.
        return problem_response(Problem("internal_error", "This is a bug of the service."), request.url.path)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(Exception, on_bug)
    for kind, to_problem in translate.items():
        app.add_exception_handler(kind, _translator(to_problem))
    app.add_middleware(ProblemMiddleware, body_limits=settings)


def _too_large(scope: Scope, body_limits: dict[int, str]) -> str:
    """Returns the detail for a body over the limit of its route."""
    limit = scope.get(MAX_BODY_SIZE_SCOPE_KEY)
    if limit is None:
        return _DETAILS[413]
    setting = body_limits.get(limit)
    return f"The body is larger than the {limit} bytes that this address takes" + (f" ({setting})." if setting else ".")


def _translator(to_problem: Any) -> Any:
    async def on_error(request: Request, error: Exception) -> Response:
        return problem_response(to_problem(error), request.url.path)

    return on_error


class ProblemMiddleware:
    """Replaces plain-text failures of the framework by problems.

    Starlette answers some failures itself, without any exception handler: a body over its limit (413), a range that a
    file does not have (416), a missing static file.
    """

    def __init__(self, app: ASGIApp, body_limits: dict[int, str]) -> None:
        self.app = app
        self.body_limits = body_limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        replacement: Response | None = None

        async def send_problem(message: Message) -> None:
            nonlocal replacement
            if message["type"] == "http.response.start" and message["status"] >= 400:
                headers = Headers(raw=message["headers"])
                if headers.get("content-type", "").split(";")[0] not in (MEDIA_TYPE, "application/json"):
                    kept = {k: v for k, v in headers.items() if k in _KEPT or k.startswith("access-control-")}
                    detail = _DETAILS.get(message["status"], "Refused.")
                    if message["status"] == 413:
                        detail = _too_large(scope, self.body_limits)
                    problem = _from_status(message["status"], detail, kept)
                    replacement = problem_response(problem, scope["path"])
                    return
            if replacement is not None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    await replacement(scope, receive, send)
                return
            await send(message)

        await self.app(scope, receive, send_problem)


_KEPT = ("allow", "content-range", "retry-after", "vary")
_DETAILS = {
    413: "The body is larger than this address takes.",
    416: "The file is shorter than the range that was asked for.",
}


_EXAMPLE_ID = "8c1f0a52d9e64b7f9d3c6a0e5b2f4718"
_NAMED = {"unknown_job", "unknown_model", "unknown_dataset", "unknown_sweep"}
"""Problems of the routes that take a name in the place of an id."""
EXAMPLES: dict[str, str] = {
    "bad_request": "There was an error parsing the body",
    "unknown_traversal": "There is no traversal with the id t-0123.",
    "unknown_job": "There is no job with the id j-0123.",
    "unknown_model": "There is no model with the id faces.",
    "unknown_dataset": "There is no data set with the id faces.",
    "unknown_sweep": "There is no sweep with the id s-0123.",
    "unknown_file": "The traversal has no file z_99.gif.",
    "not_acceptable": "This address makes application/json, image/gif, image/png; none of them is accepted.",
    "ambiguous_name": "2 models have the name faces: faces-0123ab, faces-4567cd; give one of these ids.",
    "transition_refused": "The job has succeeded; it cannot be cancelled.",
    "cross_site_refused": "A page of the origin 'https://example.org' sent this request; …",
    "host_not_allowed": "The service does not answer requests to the host 'example.org'; …",
    "too_many_requests": "This client has 100 unfinished trainings already.",
    "invalid_request": "gamma: must be at least 0, not -1",
    "upload_too_large": "The body is larger than the 1048576 bytes that this address takes.",
    "not_an_image": "The upload cannot be decoded as an image.",
    "job_store_unavailable": "Redis does not answer.",
    "storage_full": "There is no room for new files: 100.0 MB are free, and 536.9 MB stay free. Delete …",
}


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI entries of a route's failures: one per status, with an example per code."""
    entries: dict[int | str, dict[str, Any]] = {}
    named = ("ambiguous_name",) if _NAMED & set(codes) else ()
    for code in (*codes, *named, "internal_error"):
        kind = KINDS[code]
        errors = [{"field": "gamma", "message": "must be at least 0, not -1"}] if code == "invalid_request" else []
        problem = Problem(code, EXAMPLES.get(code, f"{kind.title}."), errors)
        entry = entries.setdefault(kind.status, {"description": kind.title, "content": {MEDIA_TYPE: {"examples": {}}}})
        content = entry["content"][MEDIA_TYPE]
        content["schema"] = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
        example = _details(problem, "/…", _EXAMPLE_ID).model_dump(exclude_unset=True)
        content["examples"][code] = {"summary": kind.title, "value": example}
        if len(content["examples"]) > 1:
            entry["description"] = "One of: " + ", ".join(content["examples"])
        if kind.status in (429, 503):
            entry["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return entries
