"""HEAD for every GET route, OPTIONS for every path, and an Allow header with every method of a path.

Starlette matches one route at a time, so its Allow header has only the methods of the first route at a path, and each
route would have to declare HEAD and OPTIONS.
"""

from starlette.responses import Response
from starlette.routing import Match, Mount, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class MethodsMiddleware:
    """Answers HEAD and OPTIONS, and completes the Allow header of 405."""

    def __init__(self, app: ASGIApp, router: Router) -> None:
        """Wraps an application.

        Args:
            app: The wrapped application.
            router: The application's routes.
        """
        self.app = app
        self.router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")
        if scope["type"] != "http" or method not in ("HEAD", "OPTIONS"):
            await self.app(scope, receive, self._completing(scope, send))
        elif method == "HEAD" and "GET" in self._methods(scope):
            await self._head(scope, receive, send)
        elif method == "OPTIONS" and (allow := self._allow(scope)):
            await Response(status_code=204, headers={"Allow": allow})(scope, receive, send)
        else:
            await self.app(scope, receive, self._completing(scope, send))

    def _methods(self, scope: Scope) -> list[str]:
        """Returns the methods of the routes at a request's path."""
        found = []
        for method in _METHODS:
            with_method = {**scope, "method": method}
            for route in self.router.routes:
                if route.matches(with_method)[0] is Match.FULL and (method == "GET" or not isinstance(route, Mount)):
                    found.append(method)
                    break
        return found

    def _allow(self, scope: Scope) -> str:
        """Returns the Allow header of a path, or the empty string if no route has this path."""
        methods = self._methods(scope)
        if "GET" in methods:
            methods.insert(1, "HEAD")
        return ", ".join([*methods, "OPTIONS"]) if methods else ""

    def _completing(self, scope: Scope, send: Send) -> Send:
        request_scope = dict(scope)  # A mount changes path and root_path.

        async def send_completed(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405:
                headers = [(name, value) for name, value in message["headers"] if name.lower() != b"allow"]
                message = {**message, "headers": [*headers, (b"allow", self._allow(request_scope).encode())]}
            await send(message)

        return send_completed

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs GET and sends only its headers; the server then ends a stream as if its client had disconnected."""
        get_scope = {**scope, "method": "GET"}

        async def send_start(message: Message) -> None:
            if message["type"] == "http.response.start":
                if "route" in get_scope:
                    scope["route"] = get_scope["route"]
                await send(message)
                await send({"type": "http.response.body", "body": b""})

        await self.app(get_scope, receive, send_start)
