"""Security headers of every answer, a content policy for pages, and relative redirects."""

from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
PAGE_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Icons in Swagger UI's style sheet need data:, and an answer that is a picture needs blob:.
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
"""Content-Security-Policy of HTML pages, which allows only files of this service, no inline script and no framing."""


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
    """Returns a redirect's target without the host, which the framework takes from the request's Host header."""
    parts = urlsplit(location)
    if not parts.netloc:
        return location
    # A path that begins with two slashes would name a host again.
    path = "/" + parts.path.lstrip("/")
    return f"{path}?{parts.query}" if parts.query else path
