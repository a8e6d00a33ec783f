"""A guard that refuses requests to a foreign `Host` and requests that other sites' pages send.

A service without tokens takes requests from anybody, so two checks keep web pages from using it through a visitor's
browser. The list of hosts stops DNS rebinding, in which a page's own host name is made to point at this machine. The
check of `Origin` and `Sec-Fetch-Site` stops forms and scripts on other sites that post here; clients other than
browsers send neither header.
"""

import re
import socket
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import Problem, problem_response, responses
from worker.stores.settings import PREFIX, Settings

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HOSTLESS_PATHS = ("/healthz",)
"""Paths that need no Host header, since HTTP/1.0 probes of load balancers send none; every browser sends one."""
CORS_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
CORS_REQUEST_HEADERS = (
    "Authorization", "Idempotency-Key", "If-None-Match", "If-Range", "Last-Event-ID", "Prefer", "Range", "X-Request-ID",
)  # fmt: skip
CORS_ANSWER_HEADERS = (
    "Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Location", "Retry-After", "X-Request-ID",
)  # fmt: skip

_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_SHOWN = 100

Origin = tuple[str, str, int | None]
"""Scheme, host and port."""


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Returns the host names that the service answers to.

    Args:
        settings: The settings, whose host and allowed hosts are added to this machine's own names.

    Returns:
        The names in lower case, IPv6 addresses without brackets; `*` stands for every name.
    """
    names = (*LOOPBACK_HOSTS, settings.host, socket.gethostname(), *settings.allowed_host_names)
    return frozenset(name.strip("[]").lower() for name in names if name)


class GuardMiddleware:
    """Refuses requests to foreign hosts (421) and unsafe requests from other sites (403), before any body is read."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str]) -> None:
        """Wraps an application.

        Args:
            app: The wrapped application.
            hosts: The names from `allowed_hosts`.
            origins: Origins of other sites that may send unsafe requests, as `scheme://host[:port]`.
        """
        self.app = app
        self.hosts = frozenset(hosts)
        self.origins = frozenset(filter(None, map(_parse_origin, origins)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._refusal(scope)) is not None:
            await problem_response(problem, scope["path"])(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        named = headers.getlist("host")
        if not named and scope["path"] in HOSTLESS_PATHS:
            return None
        host = _split_host(named[0]) if len(named) == 1 else None
        if host is None or not self._is_ours(host[0], scope):
            return _host_not_allowed(named)
        if scope["method"] in SAFE_METHODS:
            return None
        return self._cross_site(headers, (scope["scheme"], host[0], host[1] or _DEFAULT_PORTS.get(scope["scheme"])))

    def _is_ours(self, host: str, scope: Scope) -> bool:
        # The address that the connection came in on is safe, because DNS rebinding needs a name.
        server = scope.get("server") or ("",)
        return "*" in self.hosts or host in self.hosts or host == server[0]

    def _cross_site(self, headers: Headers, own: Origin) -> Problem | None:
        origins = headers.getlist("origin")
        if origins and all(_parse_origin(origin) in self.origins for origin in origins):
            return None
        if any(site.lower() not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
            return _cross_site_refused(origins)
        if any(_parse_origin(origin) != own for origin in origins):
            return _cross_site_refused(origins)
        return None


def _split_host(authority: str) -> tuple[str, int | None] | None:
    """Returns the host, in lower case and without brackets, and the port of a Host header; None if it is malformed."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?", authority)
    return None if match is None else (match[1].strip("[]").lower(), int(match[2]) if match[2] else None)


def _parse_origin(text: str) -> Origin | None:
    """Returns the scheme, host and port of an Origin header; None for `null` and for anything else but an origin."""
    try:
        parts = urlsplit(text)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.scheme and parts.hostname else None


def _host_not_allowed(named: list[str]) -> Problem:
    host = f"to the host {', '.join(named)[:_MAX_SHOWN]!r}" if named else "without a Host header"
    return Problem(
        "host_not_allowed",
        f"The service does not answer requests {host}; {PREFIX}ALLOWED_HOSTS lists the host names that it answers to.",
    )


def _cross_site_refused(origins: list[str]) -> Problem:
    site = f"the origin {', '.join(origins)[:_MAX_SHOWN]!r}" if origins else "another site"
    return Problem(
        "cross_site_refused",
        f"A page of {site} sent this request; {PREFIX}ALLOWED_ORIGINS lists the origins that may send such requests.",
    )


def document(schema: dict[str, Any]) -> None:
    """Adds the refusals of this module to every operation of an OpenAPI description."""
    for path in schema["paths"].values():
        for method, operation in path.items():
            codes = ("host_not_allowed", "cross_site_refused")[: 1 if method.upper() in SAFE_METHODS else 2]
            for status, answer in responses(*codes).items():
                if status != 500:
                    operation["responses"].setdefault(str(status), answer)
