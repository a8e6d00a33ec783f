"""Limits on request bodies by their media type on every route; only uploads may be large."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import BodyTooLarge, Problem, problem_response


class MediaTypeLimitMiddleware:
    """Refuses bodies over the limit of their media type with 413.

    A declared length is refused before the body is read. A body without one (chunked) is refused once it has grown over
    the limit; the rest of it is not kept. A route's own limit holds as well, and is the only one for uploads.
    """

    def __init__(self, app: ASGIApp, limits: Mapping[str, int | None], default: int) -> None:
        """Wraps an application.

        Args:
            app: The wrapped application.
            limits: Largest body of each media type, in bytes; None for an upload, which only the route's limit bounds.
            default: Largest body of every other media type and of a body without one, in bytes.
        """
        self.app = app
        self.limits = limits
        self.default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        kind = media_type(headers)
        limit = self.limits.get(kind, self.default)
        if limit is None:
            await self.app(scope, receive, send)
            return
        detail = f"A body {f'of type {kind[:100]}' if kind else 'without a media type'} may have at most {limit} bytes."
        if declared_length(headers) > limit:
            await problem_response(Problem("upload_too_large", detail), scope["path"])(scope, receive, send)
            return
        size = 0

        async def receive_within_limit() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                raise BodyTooLarge(detail)
            return message

        await self.app(scope, receive_within_limit, send)


def media_type(headers: Headers) -> str:
    """Returns a body's media type in lower case, without parameters."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


def declared_length(headers: Headers) -> int:
    """Returns the number of bytes in Content-Length; 0 without that header."""
    text = headers.get("content-length", "")
    return int(text[:20]) if text.isascii() and text.isdigit() else 0
