"""Limits on request bodies by their media type, whatever the route: only uploads may be large."""

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
            app: The application behind.
            limits: Bytes for media types; None for an upload, which only the route's own limit bounds.
            default: Bytes for every other media type, and for a body without one.
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
        if _declared_length(headers) > limit:
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
    """A body's media type, in lower case, without parameters."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


def _declared_length(headers: Headers) -> int:
    """Bytes of Content-Length, 0 where there is none."""
    text = headers.get("content-length", "")
    return int(text[:20]) if text.isascii() and text.isdigit() else 0
