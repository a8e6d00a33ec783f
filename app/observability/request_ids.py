"""An id for every request, which its answer, its log lines and the job that it makes carry."""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.stores.logs import ACCESS, REQUEST_ID

HEADER = "X-Request-ID"
_SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""The ids that are taken over from a client or a proxy; they cannot break a log line or a header."""

log = logging.getLogger(ACCESS)


class RequestIdMiddleware:
    """Takes over the request's id, or makes one, and logs the answer.

    The id is not taken back, so that the answer to a bug, which is made around all middleware, has it as well; every
    request has a context of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _given_id(scope) or secrets.token_hex(16)
        REQUEST_ID.set(request_id)
        began = time.perf_counter()

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
                _log(scope, message["status"], began)
            await send(message)

        try:
            await self.app(scope, receive, send_named)
        except Exception:
            _log(scope, 500, began)
            raise


def _given_id(scope: Scope) -> str | None:
    given = Headers(scope=scope).getlist(HEADER)
    return given[0] if len(given) == 1 and _SAFE.fullmatch(given[0]) else None


def _log(scope: Scope, status: int, began: float) -> None:
    seconds = round(time.perf_counter() - began, 4)
    fields = {"method": scope["method"], "path": scope["path"], "status": status, "seconds": seconds}
    log.info("%s %s %d", scope["method"], scope["path"], status, extra=fields)
