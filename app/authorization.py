"""API tokens over HTTP: which scope a request needs, and the refusal of requests that lack it.

A service without tokens asks for none, and then serves this machine only (worker.stores.settings, `exposure`). A token
comes as `Authorization: Bearer …`, or in the cookie that `POST /session` sets for browsers, whose pictures and event
streams cannot send headers. The cookie is SameSite=Strict, and app.guard refuses unsafe requests of other sites.
"""

import re
from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.clients import client_of, served
from app.problems import Problem, problem_response, responses
from worker.stores.tokens import SECRET, Token, TokenStore
from worker.stores.tokens import Scope as TokenScope

COOKIE = "betavae_token"
_PUBLIC = re.compile(r"/|/(healthz|readyz|session|openapi\.json|docs(/.*)?|assets/.*|problems/.*)")
"""Paths without anybody's data: the page and the API's description, the probes, and the login."""
_RENDERS = re.compile(r"/traversals(/.*)?|/models/compare|/models/[^/]+/(encode|decode|reconstruct)")
_ADMINISTERS = re.compile(r"DELETE /(models|datasets)/[^/]+|PUT /models/default")


def scope_of(method: str, path: str) -> TokenScope | None:
    """Returns the scope that a request needs; None where it needs no token.

    Args:
        method: The HTTP method.
        path: The path without the prefix of a proxy.
    """
    if _PUBLIC.fullmatch(path) or method == "OPTIONS":
        return None
    if method in ("GET", "HEAD"):
        return "read"
    if _RENDERS.fullmatch(path):
        return "render"
    return "admin" if _ADMINISTERS.fullmatch(f"{method} {path}") else "train"


def path_within(scope: Scope) -> str:
    """Returns the path that the router sees: without the prefix of a proxy, which ends where a segment does."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    if path == root:
        return "/"
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


class AuthorizationMiddleware:
    """Refuses requests without a token (401) or without the scope that they need (403), once there are tokens."""

    def __init__(self, app: ASGIApp, tokens: TokenStore) -> None:
        self.app = app
        self.tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["headers"] = with_own_cookie(scope["headers"])
        try:
            token = await self._authorized(scope)
        except Problem as problem:
            await problem_response(problem, scope["path"])(scope, receive, send)
            return
        with served(client_of(scope, token)):
            await self.app(scope, receive, send)

    async def _authorized(self, scope: Scope) -> Token | None:
        """Returns the token of a request; None if it needs none.

        Raises:
            Problem: The request has no token (token_required), or not the scope that it needs (scope_missing).
        """
        needed = scope_of(scope["method"], path_within(scope))
        if needed is None or not await anyio.to_thread.run_sync(self.tokens.exist):
            return None
        token = await anyio.to_thread.run_sync(find_token, self.tokens, Headers(scope=scope))
        if token is None:
            raise token_required("This service asks for a token, in the header Authorization: Bearer.")
        if not token.allows(needed):
            raise Problem(
                "scope_missing", f"The token {token.name!r} has the scope {token.scope}; this needs {needed}."
            )
        return token


def find_token(tokens: TokenStore, headers: Headers) -> Token | None:
    """Returns the token that a request shows in its header or its cookie; None without a valid one."""
    kind, _, secret = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return tokens.find(secret.strip())
    cookie = _secret_of(headers.get("cookie", ""))
    return tokens.find(cookie) if cookie else None


def with_own_cookie(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Returns the headers with this service's cookie alone, as plain text.

    A browser also sends the cookies of other services of this machine. The framework reads all for each route, and
    `http.cookies` needs a time that grows with the square of a quoted value's length (CVE-2024-7592).
    """
    secrets = [_secret_of(value.decode("latin-1")) for name, value in headers if name == b"cookie"]
    kept = [(name, value) for name, value in headers if name != b"cookie"]
    return kept + [(b"cookie", f"{COOKIE}={secret}".encode()) for secret in secrets if secret][:1]


def _secret_of(cookies: str) -> str:
    """Returns the token in a Cookie header, or an empty text."""
    for part in cookies.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and SECRET.fullmatch(value):
            return value
    return ""


def token_required(detail: str) -> Problem:
    """Returns the refusal of a request without a valid token."""
    return Problem("token_required", detail, headers={"WWW-Authenticate": 'Bearer realm="betavae"'})


def document(schema: dict[str, Any]) -> None:
    """Adds the token, the scope of each operation, and the refusals to an OpenAPI description."""
    schema["components"]["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "Needed once the service has tokens (`betavae tokens add`). Scopes: read, render, train, "
            "admin; each includes those before it.",
        }
    }
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            needed = scope_of(method.upper(), path)
            if needed is None:
                continue
            operation["security"] = [{}, {"token": [needed]}]
            operation["responses"].setdefault("401", responses("token_required")[401])
            if needed != "read":  # Every token includes it.
                operation["responses"]["403"] = responses("cross_site_refused", "scope_missing")[403]
