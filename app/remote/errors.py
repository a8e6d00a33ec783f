"""The one exception of the client: a problem of the service, or the reason why it cannot be asked."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

UNREACHABLE, TIMEOUT, UNEXPECTED = "service_unreachable", "service_timeout", "unexpected_answer"
"""Codes that only the client gives; all others are those of the service, listed at /problems."""
PASSING = frozenset(
    [UNREACHABLE, TIMEOUT, "too_many_jobs", "too_many_requests", "workers_busy", "job_store_unavailable"]
)
"""Codes of failures that may be over a moment later."""


class ServiceError(Exception):
    """A request of the client failed.

    Attributes:
        code: The stable code of the failure, such as unknown_model, invalid_request or service_unreachable.
        message: One sentence.
        fields: What is wrong with each field, by the field's name; empty where no field is named.
        status: The HTTP status; None where the service did not answer.
        request_id: The id of the request, which the log of the service names; empty where it gave none.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        fields: Mapping[str, str] | None = None,
        status: int | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.fields, self.status = code, message, dict(fields or {}), status
        self.request_id = request_id


def check(response: httpx.Response) -> httpx.Response:
    """Returns the response if it is a success.

    Args:
        response: The response, whose body was read.

    Raises:
        ServiceError: It is a problem of the service, or an answer of something else in between.
    """
    if response.is_success:
        return response
    problem = _problem(response)
    if problem is None:
        raise unexpected(response, f"{response.status_code} {response.reason_phrase}".strip())
    fields = {error["field"]: error["message"] for error in problem.get("errors", ())}
    raise ServiceError(
        problem["code"],
        problem["detail"],
        fields=fields,
        status=response.status_code,
        request_id=problem.get("request_id", ""),
    )


def _problem(response: httpx.Response) -> dict[str, Any] | None:
    """Returns the body of a problem of the service; None for any other answer."""
    if response.headers.get("content-type", "").split(";")[0] != "application/problem+json":
        return None
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and {"code", "detail"} <= body.keys() else None


def unexpected(response: httpx.Response, what: str) -> ServiceError:
    """Returns the error for an answer that no β-VAE service of this version gives.

    Args:
        response: The answer.
        what: The answer in a few words.
    """
    message = f"{response.url} answered {what}; it may not be a β-VAE service, or one of another version."
    return ServiceError(UNEXPECTED, message, status=response.status_code)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns errors of the connection into a ServiceError.

    Args:
        url: Address of the service, for the message.

    Raises:
        ServiceError: The service is away, or did not answer in time, or the address is none.
    """
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        message = f"No service answers at {url}; `betavae serve` starts one."
        raise ServiceError(UNREACHABLE, message) from error
    except httpx.TimeoutException as error:
        raise ServiceError(TIMEOUT, f"The service at {url} did not answer in time.") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ServiceError(
            UNREACHABLE, f"{url} is not the address of a service, such as http://127.0.0.1:8000."
        ) from error
    except httpx.TransportError as error:
        raise ServiceError(UNREACHABLE, f"The connection to the service at {url} broke.") from error
