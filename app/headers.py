"""What every answer carries: no guessing of media types, no referrer, a policy for pages; redirects are relative."""

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # data: for icons inside Swagger UI's style sheet, blob: for an answer that is a picture.
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
"""Content-Security-Policy of HTML pages: nothing but what this service serves, no inline script, no frame around it."""


class SafeHeadersMiddleware:
    """Adds SAFE_HEADERS to every answer and PAGE_POLICY to HTML, and makes the targets of redirects relative."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                _make_safe(MutableHeaders(scope=message))
            await send(message)

        await self.app(scope, receive, send_safe)


def _make_safe(headers: MutableHeaders) -> None:
    for name, value in SAFE_HEADERS.items():
        headers.setdefault(name, value)
    if headers.get("content-type", "").startswith("text/html"):
        headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    if (location := headers.get("location")) is not None:
        headers["location"] = _relative(location)


def _relative(location: str) -> str:
    """A redirect's target without the host, which the framework takes from the request's Host header."""
    parts = urlsplit(location)
    if not parts.netloc:
        return location
    # One slash alone: a path that begins with two would name a host again.
    path = "/" + parts.path.lstrip("/")
    return f"{path}?{parts.query}" if parts.query else path
