"""Every failure over HTTP has one shape: `application/problem+json` (RFC 9457) with a stable `code`.

`Problem` is what routes raise; `install` catches it and everything else that can end a request: the framework's own
404, 405, 413 and 422, errors of the layers below (an unreachable Redis, a refused setting), and bugs.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.headers import SAFE_HEADERS

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True)
class ProblemKind:
    """What a `code` stands for: its status and title never change, its detail names the case."""

    status: int
    title: str


KINDS: dict[str, ProblemKind] = {
    "bad_request": ProblemKind(400, "The request could not be read"),
    "cross_site_refused": ProblemKind(403, "Pages of other sites may not change anything"),
    "not_found": ProblemKind(404, "There is nothing at this address"),
    "unknown_traversal": ProblemKind(404, "No such traversal"),
    "unknown_job": ProblemKind(404, "No such job"),
    "unknown_model": ProblemKind(404, "No such model"),
    "unknown_dataset": ProblemKind(404, "No such data set"),
    "unknown_file": ProblemKind(404, "No such file"),
    "method_not_allowed": ProblemKind(405, "This address does not take that method"),
    "not_acceptable": ProblemKind(406, "None of the accepted media types can be made"),
    "transition_refused": ProblemKind(409, "The job's state does not allow this"),
    "already_exists": ProblemKind(409, "The name is taken"),
    "in_use": ProblemKind(409, "It is in use"),
    "read_only": ProblemKind(409, "It ships with the service and cannot be changed"),
    "not_ready": ProblemKind(409, "It is not ready yet"),
    "idempotency_conflict": ProblemKind(409, "The Idempotency-Key came with another request before"),
    "upload_too_large": ProblemKind(413, "The request's body is too large"),
    "image_too_large": ProblemKind(413, "The image is too large"),
    "unsupported_media_type": ProblemKind(415, "The body's media type is not supported"),
    "unsupported_image": ProblemKind(415, "The image's format is not supported"),
    "range_not_satisfiable": ProblemKind(416, "The file does not have that range"),
    "host_not_allowed": ProblemKind(421, "The service does not answer to this host"),
    "invalid_request": ProblemKind(422, "The request is not valid"),
    "not_an_image": ProblemKind(422, "The upload is no image"),
    "invalid_dataset": ProblemKind(422, "The upload is no data set"),
    "invalid_model": ProblemKind(422, "The upload is no model"),
    "too_many_jobs": ProblemKind(429, "Too much work is waiting already"),
    "request_failed": ProblemKind(500, "The work failed"),
    "internal_error": ProblemKind(500, "Internal error"),
    "job_store_unavailable": ProblemKind(503, "The job store cannot be reached"),
    "workers_busy": ProblemKind(503, "No worker answered in time"),
    "storage_full": ProblemKind(503, "There is no room on the storage"),
}

_CODE_BY_STATUS = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "upload_too_large",
    415: "unsupported_media_type",
    416: "range_not_satisfiable",
    422: "invalid_request",
    503: "job_store_unavailable",
}


@dataclass
class Problem(Exception):
    """A failure that the client is told about.

    Args: code, a key of KINDS; detail, one sentence about this case; errors, one entry per wrong field, each
    {"field", "message"}; headers, joined to the answer's.
    """

    code: str
    detail: str
    errors: list[dict[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.detail)

    @property
    def status(self) -> int:
        return KINDS[self.code].status


class BodyTooLarge(HTTPException):
    """A body grew over a limit while it was read.

    FastAPI lets an HTTPException through while it reads a body, and takes every other exception for a malformed body.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(413, detail)


def invalid(field_name: str, message: str) -> Problem:
    """A 422 for one field."""
    return Problem("invalid_request", f"{field_name}: {message}", [{"field": field_name, "message": message}])


def problem_json(problem: Problem, instance: str) -> dict[str, Any]:
    """The body of the answer; `errors` is there only when fields are named."""
    kind = KINDS[problem.code]
    body: dict[str, Any] = {
        "type": f"/problems/{problem.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "code": problem.code,
        "instance": instance,
    }
    if problem.errors:
        body["errors"] = problem.errors
    return body


def problem_response(problem: Problem, instance: str) -> Response:
    """The answer; 429 and 503 always carry Retry-After."""
    headers = dict(problem.headers)
    if problem.status in (429, 503):
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    headers.setdefault("Cache-Control", "no-store")
    # Answers to bugs pass by the middleware that adds these to all others.
    headers = {**SAFE_HEADERS, **headers}
    body = json.dumps(problem_json(problem, instance), ensure_ascii=True).encode()
    return Response(body, problem.status, headers, MEDIA_TYPE)


def _from_status(status: int, detail: str, headers: dict[str, str] | None) -> Problem:
    code = _CODE_BY_STATUS.get(status, "internal_error" if status >= 500 else "bad_request")
    return Problem(code, detail, headers=dict(headers or {}))


def _from_validation(error: RequestValidationError) -> Problem:
    errors = []
    for one in error.errors():
        path = [str(part) for part in one["loc"] if part not in ("body", "query", "path", "header")]
        errors.append({"field": ".".join(path) or str(one["loc"][0]), "message": str(one["msg"])})
    detail = "; ".join(f"{e['field']}: {e['message']}" for e in errors[:3]) or "The request is not valid."
    return Problem("invalid_request", detail, errors)


def install(app: FastAPI, translate: dict[type[Exception], Any], body_limits: dict[int, str] | None = None) -> None:
    """Makes `app` answer every failure with a problem.

    Args: translate, exceptions of the layers below, each with a function (exception) -> Problem; body_limits, in bytes,
    each with the setting that it comes from.
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
        return problem_response(_from_validation(error), request.url.path)

    async def on_bug(request: Request, error: Exception) -> Response:
        # Starlette raises it again after the answer: the server logs the trace.
        return problem_response(Problem("internal_error", "This is a bug of the service."), request.url.path)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(Exception, on_bug)
    for kind, to_problem in translate.items():
        app.add_exception_handler(kind, _translator(to_problem))
    app.add_middleware(ProblemMiddleware, body_limits=settings)


def _too_large(scope: Scope, body_limits: dict[int, str]) -> str:
    """What to say of a body over the limit of its route."""
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

    Starlette answers some failures itself, past every exception handler: a body over its limit (413), a range that a
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


EXAMPLES: dict[str, str] = {
    "bad_request": "There was an error parsing the body",
    "unknown_traversal": "There is no traversal with the id t-0123.",
    "unknown_job": "There is no job with the id j-0123.",
    "unknown_model": "There is no model with the id faces.",
    "unknown_dataset": "There is no data set with the id faces.",
    "unknown_file": "The traversal has no file z_99.gif.",
    "not_acceptable": "This address makes application/json, image/gif, image/png; none of them is accepted.",
    "transition_refused": "The job has succeeded; it cannot be cancelled.",
    "cross_site_refused": "A page of the origin 'https://example.org' sent this request; …",
    "host_not_allowed": "The service does not answer requests to the host 'example.org'; …",
    "invalid_request": "gamma: must be at least 0, not -1",
    "upload_too_large": "The body is larger than the 1048576 bytes that this address takes.",
    "not_an_image": "The upload cannot be decoded as an image.",
    "job_store_unavailable": "Redis does not answer.",
}


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entries of a route's failures: one per status, an example per code."""
    entries: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, "internal_error"):
        kind = KINDS[code]
        errors = [{"field": "gamma", "message": "must be at least 0, not -1"}] if code == "invalid_request" else []
        problem = Problem(code, EXAMPLES.get(code, f"{kind.title}."), errors)
        entry = entries.setdefault(kind.status, {"description": kind.title, "content": {MEDIA_TYPE: {"examples": {}}}})
        content = entry["content"][MEDIA_TYPE]
        content["schema"] = {"$ref": "#/components/schemas/Problem"}
        content["examples"][code] = {"summary": kind.title, "value": problem_json(problem, "/…")}
        if len(content["examples"]) > 1:
            entry["description"] = "One of: " + ", ".join(content["examples"])
        if kind.status in (429, 503):
            entry["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return entries


SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "Every failure has this shape. `code` is stable; `detail` is for people.",
    "required": ["type", "title", "status", "detail", "code", "instance"],
    "properties": {
        "type": {"type": "string", "description": "Address of the description of this code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": sorted(KINDS)},
        "instance": {"type": "string", "description": "Path of the request."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
